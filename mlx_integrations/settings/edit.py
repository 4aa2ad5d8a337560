"""Changing settings in a configuration file: everything else in it stays, comments included."""

import json
import os
import tempfile
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import TypeAdapter

from mlx_integrations.errors import ConfigurationError
from mlx_integrations.settings.checks import check_keys, field_of
from mlx_integrations.settings.model import Settings
from mlx_integrations.settings.sections import split_names
from mlx_integrations.settings.sources import SECRET_HINT, SECRETS

__all__ = ["edited_text", "read_text", "remove_setting", "replace_file", "write_setting"]


def write_setting(path: Path, key: str, text: str) -> Any:
    """Set one key in a file, which is made if it is not there. It is replaced in one step, or not at all.

    Args:
        path: TOML or JSON, by its suffix.
        key: A dotted name, such as `models.default`.
        text: The value as a person types it; several folders are separated as in PATH, several names by
            commas.

    Returns:
        The value that was written.

    Raises:
        ConfigurationError: There is no such setting, it cannot be that, or it must not be in a file.
    """
    value = _checked(key, text)
    _edit(path, key, value)
    return value


def edited_text(path: Path, text: str, changes: Mapping[str, str]) -> str:
    """What a file would hold with some settings changed. Writes nothing: that is for `replace_file`.

    Args:
        path: TOML or JSON, by its suffix.
        text: What it holds.
        changes: New values by dotted names, as a person types them.

    Raises:
        ConfigurationError: As for `write_setting`.
    """
    for key, value in changes.items():
        text = _edited(text, key, _checked(key, value), is_json=path.suffix == ".json") or text
    return text


def read_text(path: Path) -> str:
    """What a configuration file holds; nothing if it is not there."""
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _checked(key: str, text: str) -> Any:
    """The value that a text stands for, if that setting can be in a file and can have it."""
    check_keys(_nested(key, text), Settings, where="the command line")
    if key in SECRETS:
        raise ConfigurationError(f"`{key}` is a secret, which no file is to hold.", hint=SECRET_HINT)
    field = field_of(Settings, key)
    if field is None:
        raise ConfigurationError(
            f"`{key}` is a section.", hint="Name one of its settings: `mlxi config show` has them."
        )
    Settings(**_nested(key, text))
    return _as_written(field.annotation, text)


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
        return [part for part in text.split(os.pathsep) if part] if Path in members else split_names(text)
    plain = members[0] if members else annotation
    return TypeAdapter(plain).validate_python(text) if plain in (bool, int, float) else text


def _nested(key: str, value: Any) -> dict[str, Any]:
    for name in reversed(key.split(".")):
        value = {name: value}
    return dict(value)


def _edit(path: Path, key: str, value: Any) -> bool:
    """Set or, with `None`, remove a key; returns whether anything changed."""
    edited = _edited(read_text(path), key, value, is_json=path.suffix == ".json")
    if edited is not None:
        replace_file(path, edited)
    return edited is not None


def _edited(text: str, key: str, value: Any, *, is_json: bool) -> str | None:
    """A document with one key set or, with `None`, removed; `None` if there was nothing to remove."""
    import tomlkit

    document: MutableMapping[str, Any] = json.loads(text or "{}") if is_json else tomlkit.parse(text)
    *sections, name = key.split(".")
    table = document
    for section in sections:
        if section not in table:
            if value is None:
                return None
            table[section] = {} if is_json else tomlkit.table()
        table = table[section]
    if value is None:
        if table.pop(name, None) is None:
            return None
    elif name not in table or table[name] != value:
        table[name] = value
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n" if is_json else tomlkit.dumps(document)


def replace_file(path: Path, text: str) -> None:
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
