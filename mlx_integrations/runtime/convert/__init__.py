"""Turns models of other formats into folders that the runtime loads."""
