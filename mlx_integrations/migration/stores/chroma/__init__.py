"""Chroma in a folder."""
