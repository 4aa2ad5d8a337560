"""What `mlxi setup` asks and does, step by step."""
