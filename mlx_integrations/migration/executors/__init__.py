"""Who turns texts into vectors for a migration: this process, or a cluster."""
