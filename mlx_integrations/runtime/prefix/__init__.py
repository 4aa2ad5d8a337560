"""Prompt prefixes: what a conversation shares with an earlier one is not read again."""
