"""Chats: prompts in, chunks out; sampling, stopping, grammar, tool calls and the batch they run in."""
