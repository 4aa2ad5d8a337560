"""`mlxi migrate`: give a vector store the vectors of another model."""
