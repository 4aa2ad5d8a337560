"""The command that gives a store the vectors of another model, for errors that say what to do."""

import shlex
from pathlib import Path

__all__ = ["migration_command"]


def migration_command(address: str | Path, name: str | None = None) -> str:
    """The command, up to the model's name.

    Args:
        address: The store's folder, file or URL.
        name: Which of its indexes, collections or tables, where it has several.
    """
    named = "" if name is None else f" --name {shlex.quote(name)}"
    return f"mlxi migrate run {shlex.quote(str(address))}{named}"
