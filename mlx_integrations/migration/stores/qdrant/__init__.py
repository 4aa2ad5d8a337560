"""Qdrant, in a folder and on a server."""
