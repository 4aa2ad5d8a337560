"""Something was set up wrongly, before any request."""

from collections.abc import Mapping, Sequence
from typing import Any

from mlx_integrations.errors.base import MLXIntegrationsError

__all__ = [
    "ConfigurationError",
    "EmbeddingMismatchError",
    "MissingExtraError",
    "ModelNotFoundError",
    "RegistryError",
    "SidecarError",
    "UnsupportedFormatError",
]


class ConfigurationError(MLXIntegrationsError, ValueError):
    """Something was set up wrongly, before any request was made."""


class MissingExtraError(ConfigurationError, ImportError):
    """An optional dependency is not installed; the hint is the exact install line."""

    def __init__(self, message: str, *, extra: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint or f'Install it with: pip install "mlx-integrations[{extra}]"')
        self.extra = extra


class ModelNotFoundError(ConfigurationError, LookupError):
    """No model goes by that name on this machine."""

    default_hint = "Give `demo`, a Hub repository id that is already in the local cache, or a folder."

    def __init__(self, message: str, *, model: str, suggestions: Sequence[str] = (), hint: str | None = None) -> None:
        if hint is None and suggestions:
            hint = "Did you mean " + " or ".join(f"`{name}`" for name in suggestions) + "?"
        super().__init__(message, hint=hint)
        self.model = model
        self.suggestions = tuple(suggestions)


class EmbeddingMismatchError(ConfigurationError):
    """A store holds vectors that cannot be compared with those of the model it was opened with.

    `stored` and `current` are the two fingerprints, as plain values; `fields` names what differs.
    """

    def __init__(
        self,
        message: str,
        *,
        store: str,
        stored: Mapping[str, Any],
        current: Mapping[str, Any],
        fields: Sequence[str] = (),
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.store = store
        self.stored = dict(stored)
        self.current = dict(current)
        self.fields = tuple(fields)


class SidecarError(ConfigurationError):
    """The record that says which model made a store's vectors cannot be read; `path` is where it is."""

    def __init__(self, message: str, *, path: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.path = path


class RegistryError(ConfigurationError):
    """The user's own list of models cannot be read, or an entry of it is not valid; `path` is where it is."""

    def __init__(self, message: str, *, path: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.path = path


class UnsupportedFormatError(ConfigurationError):
    """A model file of a kind that cannot be run or converted here; the hint names what to take instead."""

    def __init__(self, message: str, *, path: str, format_name: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.path = path
        self.format_name = format_name
