"""WHERE models are on this machine."""
