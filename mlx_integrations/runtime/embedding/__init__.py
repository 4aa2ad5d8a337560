"""Text embedding: encoders, the modules of sentence-transformers, batching and the backend."""
