"""Writing what was chosen into the user's configuration file, once it is known to work: shown first, in one step."""

import difflib
from collections.abc import Mapping
from pathlib import Path

from mlx_integrations.cli.config import config_file, short_path
from mlx_integrations.cli.menus import LeftError, read_yes, tell
from mlx_integrations.cli.parts import Invocation
from mlx_integrations.settings import find_origins
from mlx_integrations.settings.edit import edited_text, read_text, replace_file

__all__ = ["difference", "save"]

_STYLES = {"+": "green", "-": "red"}


def difference(before: str, after: str) -> list[str]:
    """Which lines change, each with `+` or `-` before it, and those around them. Pure."""
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=2)
    return [line for line in lines if not line.startswith(("---", "+++", "@@"))]


def save(invocation: Invocation, changes: Mapping[str, str], *, is_asked: bool) -> Path:
    """Change the user's own file, if that is needed.

    Args:
        invocation: The settings so far.
        changes: New values by their dotted names.
        is_asked: Whether the person has to agree first.

    Returns:
        The file.

    Raises:
        LeftError: The person did not agree.
        ConfigurationError: The file cannot be changed like that.
    """
    path = config_file(False)
    before = read_text(path)
    after = edited_text(path, before, changes)
    if before == after:
        tell(f"\n{short_path(path)} says so already.")
    else:
        tell(f"\nSettings, in {short_path(path)}", style="bold")
        for line in difference(before, after):
            tell(f"  {line}", style=_STYLES.get(line[:1], "dim"))
        if is_asked and not read_yes("Write this?"):
            raise LeftError
        replace_file(path, after)
    _warn_of_stronger(invocation, changes, path)
    return path


def _warn_of_stronger(invocation: Invocation, changes: Mapping[str, str], path: Path) -> None:
    """Tell of variables and project files that go on saying otherwise."""
    origins = find_origins(**invocation.overrides)
    for key in changes:
        origin = origins.get(key)
        if origin is not None and Path(origin.place).absolute() != path.absolute():
            tell(f"mlxi: {origin} is stronger than this file, and sets {key} to something else.", style="yellow")
