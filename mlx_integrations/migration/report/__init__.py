"""What became of a store's vectors: measured, as JSON, and as a page to look at."""
