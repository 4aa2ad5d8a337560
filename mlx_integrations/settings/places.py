"""Where this package keeps things on this machine. Nothing is read or made here."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

__all__ = ["CONFIG_VARIABLE", "cache_folder", "migrations_folder", "models_folder", "state_folder", "user_config_path"]

CONFIG_VARIABLE: Final = "MLXI_CONFIG"
"""The variable that names the user's configuration file, wherever it is."""
_APP = "mlxi"


def user_config_path(environ: Mapping[str, str] = os.environ, platform: str = sys.platform) -> Path:
    """The user's own configuration file; it need not exist unless MLXI_CONFIG names it.

    The platform's place: `~/Library/Application Support/mlxi` on macOS, `~/.config/mlxi` elsewhere. A file that lies in
    `~/.config/mlxi` counts on macOS too, and so does XDG_CONFIG_HOME where it is set.
    """
    if named := environ.get(CONFIG_VARIABLE):
        return Path(named).expanduser()
    folder = Path(environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser() / _APP
    if platform == "darwin" and not environ.get("XDG_CONFIG_HOME"):
        from platformdirs.macos import MacOS

        is_used = any((folder / name).is_file() for name in ("config.toml", "config.json"))
        folder = folder if is_used else MacOS(_APP, appauthor=False).user_config_path
    return folder / "config.toml"


def models_folder() -> Path:
    """Where models go that were converted on this machine."""
    from platformdirs import user_data_path

    return user_data_path(_APP, appauthor=False) / "models"


def migrations_folder() -> Path:
    """Where migrations of stores on servers are kept; those of files lie beside them."""
    from platformdirs import user_data_path

    return user_data_path(_APP, appauthor=False) / "migrations"


def state_folder() -> Path:
    """Where to keep what a person would miss but can do without, such as what they typed before."""
    from platformdirs import user_state_path

    return user_state_path(_APP, appauthor=False)


def cache_folder() -> Path:
    """Where to keep what can be fetched again."""
    from platformdirs import user_cache_path

    return user_cache_path(_APP, appauthor=False)
