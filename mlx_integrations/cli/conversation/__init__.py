"""A conversation at a terminal: what is kept of it, what can be typed, and the loop that holds it together."""
