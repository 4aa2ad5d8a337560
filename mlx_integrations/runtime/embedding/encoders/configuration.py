"""The configuration of an encoder, read with errors that name the key."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlx_integrations.errors import UnsupportedArchitectureError
from mlx_integrations.runtime.embedding.json_fields import JsonFields

__all__ = ["EncoderConfig"]

_OTHER_MODEL = "Choose another model, or run this one with sentence-transformers."


class EncoderConfig:
    """A config.json, asked for one key at a time.

    Args:
        values: config.json, as it stands.
        path: Its folder.
    """

    def __init__(self, values: Mapping[str, Any], path: Path) -> None:
        self.path = path
        self.model_type = str(values.get("model_type"))
        self._fields = JsonFields(path / "config.json", path, dict(values))

    def __contains__(self, key: str) -> bool:
        return self._fields.values.get(key) is not None

    def is_null(self, key: str) -> bool:
        """Whether the key is there and says `null`."""
        return key in self._fields.values and key not in self

    def size(self, *keys: str, default: int | None = None) -> int:
        """A whole number above 0, under the first of these keys that is there.

        Raises:
            ModelLoadError: There is none, and no default.
        """
        for key in keys:
            found = self._fields.size(key)
            if found is not None:
                return found
        if default is None:
            raise self._fields.error(f"has no `{keys[0]}`.")
        return default

    def index(self, key: str, default: int) -> int:
        """A whole number from 0 on, such as a token's id."""
        return 0 if self._fields.values.get(key) == 0 else self.size(key, default=default)

    def number(self, *keys: str, default: float) -> float:
        """A number above 0, under the first of these keys that is there."""
        for key in keys:
            value = self._fields.values.get(key)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
                raise self._fields.error(f"has `{key}` = `{value}`, which is not a number above 0.")
            return float(value)
        return default

    def flag(self, key: str, default: bool) -> bool:
        """A truth value; `null` means the default."""
        return self._fields.flag(key, default)

    def text(self, *keys: str, default: str) -> str:
        """A string, under the first of these keys that is there."""
        return next((found for key in keys if (found := self._fields.text(key))), default)

    def part(self, key: str) -> "EncoderConfig":
        """The object under a key; empty if there is none."""
        values = {"model_type": self.model_type, **self._fields.mapping(key)}
        return EncoderConfig(values, self.path)

    def values_of(self, key: str) -> Any:
        """What stands under a key, unchecked."""
        return self._fields.values.get(key)

    def allow_only(self, key: str, *allowed: object) -> None:
        """Refuse a model whose `key` is there and has none of these values.

        Raises:
            UnsupportedArchitectureError: It has another one.
        """
        value = self._fields.values.get(key)
        if value is not None and value not in allowed:
            raise self.unsupported(f"`{key}` = `{value}`")

    def unsupported(self, what: str) -> UnsupportedArchitectureError:
        """An error about something this engine has no code for."""
        return UnsupportedArchitectureError(
            f"`{self.path / 'config.json'}`: {what} is not supported for `{self.model_type}` as an embedding model.",
            model_path=str(self.path),
            model_type=self.model_type,
            hint=_OTHER_MODEL,
        )
