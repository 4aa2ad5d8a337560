"""What the commands are made of; tests and embedders hand in their own."""

from collections.abc import Callable
from dataclasses import dataclass

from mlx_integrations.protocols import ChatBackend
from mlx_integrations.settings import Settings


def _chat_backend(model: str) -> ChatBackend:
    # Imported here so that `mlxi --help` does not wait for the runtime.
    from mlx_integrations import assembly

    return assembly.chat_backend(model)


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The makers of what commands need; nothing is made before a command asks.

    Attributes:
        settings: Reads the settings.
        chat_backend: Finds what answers for a model name.
    """

    settings: Callable[[], Settings] = Settings
    chat_backend: Callable[[str], ChatBackend] = _chat_backend
