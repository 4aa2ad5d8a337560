"""Changing one setting in a configuration file: everything else in it stays, comments included."""

import json
import os
import tempfile
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import TypeAdapter

from mlx_integrations.errors import ConfigurationError
from mlx_integrations.settings.checks import check_keys, field_of
from mlx_integrations.settings.model import Settings
from mlx_integrations.settings.sources import SECRET_HINT, SECRETS

__all__ = ["remove_setting", "write_setting"]


def write_setting(path: Path, key: str, text: str) -> Any:
    """Set one key in a file, which is made if it is not there. It is replaced in one step, or not at all.

    Args:
        path: TOML or JSON, by its suffix.
        key: A dotted name, such as `models.default`.
        text: The value as a person types it; several folders are separated as in PATH.

    Returns:
        The value that was written.

    Raises:
        ConfigurationError: There is no such setting, it cannot be that, or it must not be in a file.
    """
    check_keys(_nested(key, text), Settings, where="the command line")
    if key in SECRETS:
        raise ConfigurationError(f"`{key}` is a secret, which no file is to hold.", hint=SECRET_HINT)
    field = field_of(Settings, key)
    if field is None:
        raise ConfigurationError(
            f"`{key}` is a section.", hint="Name one of its settings: `mlxi config show` has them."
        )
    Settings(**_nested(key, text))
    value = _as_written(field.annotation, text)
    _edit(path, key, value)
    return value


def remove_setting(path: Path, key: str) -> bool:
    """Take one key out of a file.

    Returns:
        Whether it was there.
    """
    check_keys(_nested(key, ""), Settings, where="the command line")
    if not path.is_file():
        return False
    return _edit(path, key, None)


def _as_written(annotation: Any, text: str) -> Any:
    """A typed value; the text of paths stays as it is, so that `~` goes on meaning home."""
    members = [member for member in get_args(annotation) if member is not type(None)]
    if get_origin(annotation) is tuple:
        return [part for part in text.split(os.pathsep) if part]
    plain = members[0] if members else annotation
    return TypeAdapter(plain).validate_python(text) if plain in (bool, int, float) else text


def _nested(key: str, value: Any) -> dict[str, Any]:
    for name in reversed(key.split(".")):
        value = {name: value}
    return dict(value)


def _edit(path: Path, key: str, value: Any) -> bool:
    """Set or, with `None`, remove a key; returns whether anything changed."""
    import tomlkit

    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    is_json = path.suffix == ".json"
    document: MutableMapping[str, Any] = json.loads(text or "{}") if is_json else tomlkit.parse(text)
    *sections, name = key.split(".")
    table = document
    for section in sections:
        if section not in table:
            if value is None:
                return False
            table[section] = {} if is_json else tomlkit.table()
        table = table[section]
    if value is None:
        if table.pop(name, None) is None:
            return False
    else:
        table[name] = value
    _replace(path, json.dumps(document, indent=2, ensure_ascii=False) + "\n" if is_json else tomlkit.dumps(document))
    return True


def _replace(path: Path, text: str) -> None:
    """Write a file in one step, with the permissions of the one that it replaces."""
    target = path.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        if target.is_file():
            Path(name).chmod(target.stat().st_mode)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
