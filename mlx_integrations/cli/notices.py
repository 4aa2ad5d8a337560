"""News about models: new, replaced, no longer advised. At most once a day, and only where somebody reads along."""

import os
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mlx_integrations.cli.console import say
from mlx_integrations.cli.parts import Invocation

if TYPE_CHECKING:
    from mlx_integrations.manager.records import InstalledModel

__all__ = ["show_notices"]

_STATE_FILE = "notices.json"


def show_notices(invocation: Invocation, models: "Sequence[InstalledModel]") -> None:
    """Print news to stderr if there is any and somebody is there to read it.

    Args:
        invocation: Registry, settings, and where it is remembered what was told.
        models: Those on this machine: that others were replaced is no news.
    """
    settings = invocation.settings
    if not sys.stderr.isatty() or not settings.registry.notices or settings.offline or os.environ.get("CI"):
        return
    from mlx_integrations.registry import notices

    state_file = invocation.parts.state_folder() / _STATE_FILE
    entries = [invocation.registry.get(model.repo_id or model.name) for model in models]
    installed = {entry.id for entry in entries if entry is not None}
    for notice in notices(invocation.registry, state_file, time.time(), installed=installed):
        say(notice.text, style="dim")
