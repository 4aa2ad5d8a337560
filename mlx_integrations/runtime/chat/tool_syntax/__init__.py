"""How model families write tool calls, reasoning and the visible answer: one small file for each family."""
