"""What `mlxi doctor` looks at: each check asks its surroundings, and says what it found and what repairs it."""
