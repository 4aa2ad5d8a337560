"""`python -m mlx_integrations` is the same as `mlxi`."""

from mlx_integrations.cli.main import run

if __name__ == "__main__":
    run()
