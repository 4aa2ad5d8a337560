"""New stores for documents that are moved: one file for each kind."""
