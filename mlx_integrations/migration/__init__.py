"""Re-embed a vector store with another model: planned, resumable, verified, switched at once, and rolled back."""
