"""Embeds rows so that nothing is lost: passes over a store, a journal, staged vectors, and their folder."""
