"""Finds stores in folders, and looks at what is there."""
