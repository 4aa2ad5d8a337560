"""What a model takes in memory, from its configuration and the bytes of its weights. Pure: no MLX, no disk."""
