"""JSON files of a model, with errors that name the file and the key."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlx_integrations.errors import ModelLoadError

__all__ = ["JsonFields", "read_rows"]

_REPAIR = "Download the file again, or correct it."


class JsonFields:
    """The object in one JSON file of a model.

    Args:
        file: Where it lies; a file that does not exist has no keys.
        root: The model's folder, for errors.
        values: The object, if the file was read already.

    Raises:
        ModelLoadError: The file cannot be read, or holds something else.
    """

    def __init__(self, file: Path, root: Path, values: dict[str, Any] | None = None) -> None:
        self.file = file
        self.exists = file.is_file()
        self._root = root
        content = _parsed(file, root) if values is None and self.exists else values or {}
        if not isinstance(content, dict):
            raise self.error("does not hold a JSON object.")
        self.values: dict[str, Any] = content

    def error(self, what: str, *, hint: str = _REPAIR) -> ModelLoadError:
        """An error about this file; `what` goes on after its name."""
        return ModelLoadError(f"`{self.file}` {what}", model_path=str(self._root), hint=hint)

    def flag(self, key: str, default: bool) -> bool:
        """A truth value; `null` means the default."""
        return bool(self._typed(key, bool, "neither true nor false", default))

    def text(self, key: str) -> str | None:
        """A string, if there is one."""
        value: str | None = self._typed(key, str, "not a string", None)
        return value

    def mapping(self, key: str) -> Mapping[str, Any]:
        """An object; empty if there is none."""
        value: Mapping[str, Any] = self._typed(key, dict, "not an object", {})
        return value

    def size(self, key: str) -> int | None:
        """A whole number above 0, if there is one; some tools write 512 as 512.0."""
        value = self.values.get(key)
        if value is None:
            return None
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not is_number or value < 1 or int(value) != value:
            raise self.error(f"has `{key}` = `{value}`, which is not a whole number above 0.")
        return int(value)

    def _typed(self, key: str, kind: type[Any], complaint: str, default: Any) -> Any:
        value = self.values.get(key)
        if value is None:
            return default
        if not isinstance(value, kind):
            raise self.error(f"has `{key}` = `{value}`, which is {complaint}.")
        return value


def read_rows(file: Path, root: Path) -> list[JsonFields]:
    """The objects of a file that holds a list of them.

    Raises:
        ModelLoadError: The file cannot be read, or holds something else.
    """
    content = _parsed(file, root)
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        raise ModelLoadError(f"`{file}` does not hold a list of JSON objects.", model_path=str(root), hint=_REPAIR)
    return [JsonFields(file, root, row) for row in content]


def _parsed(file: Path, root: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelLoadError(f"`{file}` cannot be read: {error}.", model_path=str(root), hint=_REPAIR) from error
