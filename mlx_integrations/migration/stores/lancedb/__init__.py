"""LanceDB in a folder."""
