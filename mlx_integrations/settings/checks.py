"""What is wrong with a setting, said so that it can be put right: nearest names, values that are allowed."""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from mlx_integrations.errors import ConfigurationError
from mlx_integrations.settings.places import CONFIG_VARIABLE

__all__ = [
    "ENV_PREFIX",
    "allowed_values",
    "check_keys",
    "check_variables",
    "field_of",
    "leaves",
    "nearest_value",
    "unknown_setting",
    "variable_name",
]

ENV_PREFIX: Final = "MLXI_"
_ANY_NAME: Final = "<name>"
_NOUNS: Final[dict[Any, str]] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    Path: "a path",
    SecretStr: "text",
}
_LISTS: Final[dict[Any, str]] = {Path: "paths", str: "names"}


def leaves(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every setting as `section.name`; `<name>` stands for names that the user gives."""
    for name, field in model.model_fields.items():
        entry = _entry_of(field.annotation)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from leaves(field.annotation, f"{prefix}{name}.")
        elif entry is not None:
            yield from leaves(entry, f"{prefix}{name}.{_ANY_NAME}.")
        else:
            yield f"{prefix}{name}", field


def field_of(model: type[BaseModel], key: str) -> FieldInfo | None:
    """The setting of that name, the names that users give included."""
    return next((field for leaf, field in leaves(model) if _filled(leaf, key, ".") == key), None)


def variable_name(key: str) -> str:
    """The variable that sets a key."""
    return ENV_PREFIX + key.upper().replace(".", "__")


def check_keys(
    values: Mapping[str, Any], model: type[BaseModel], *, where: str, lines: Mapping[str, int] | None = None
) -> None:
    """Refuse a key that no section has, at any depth.

    Args:
        values: What a source sets.
        model: The settings.
        where: The source, in words.
        lines: On which line of it each key stands, if it has lines.

    Raises:
        ConfigurationError: There is such a key; the hint names the nearest one that exists.
    """
    for name in _unknown_keys(values, model):
        line = (lines or {}).get(name)
        raise unknown_setting(name, model, where=f"{where}, line {line}" if line else where)


def unknown_setting(key: str, model: type[BaseModel], *, where: str = "") -> ConfigurationError:
    """The error for a name that no setting has; its hint names the nearest one that exists."""
    return _unknown(key, [*(_filled(leaf, key, ".") for leaf, _ in leaves(model)), *model.model_fields], where)


def check_variables(names: Sequence[str], model: type[BaseModel], *, where: str) -> None:
    """Refuse MLXI_* variables that set nothing: a misspelt one would otherwise be ignored in silence.

    Raises:
        ConfigurationError: There is such a variable; the hint names the nearest one that exists.
    """
    variables = [variable_name(leaf) for leaf, _ in leaves(model)]
    sections = {variable_name(name) for name in model.model_fields}
    for name in (name.upper() for name in names):
        known = {CONFIG_VARIABLE, *(_filled(variable, name, "__") for variable in variables)}
        if name.startswith(ENV_PREFIX) and name not in known | sections:
            raise _unknown(name, sorted(known), where)


def allowed_values(field: FieldInfo) -> str:
    """What a setting can be, in words."""
    annotation = field.annotation
    members = [member for member in get_args(annotation) if member is not type(None)]
    if get_origin(annotation) is tuple:
        names = get_args(members[0])
        return f"a list of {_listed(names, 'and') if names else _LISTS[members[0]]}"
    if get_origin(annotation) is Literal:
        return _listed(members, "or")
    if get_origin(annotation) is Annotated or type(None) in get_args(annotation) or get_origin(annotation) is Union:
        annotation = members[0]
    words = _NOUNS.get(annotation, "a table" if annotation is not None else "a value")
    limits = {
        name: getattr(rule, name)
        for rule in field.metadata
        for name in ("gt", "ge", "min_length", "pattern")
        if getattr(rule, name, None) is not None
    }
    if "gt" in limits:
        return f"{words} above {limits['gt']}"
    if "ge" in limits:
        return f"{words} of at least {limits['ge']}"
    if "pattern" in limits and not limits["pattern"].startswith("^http"):
        return "the name of a variable"
    if "pattern" in limits:
        return "an address that begins with http:// or https://"
    return f"{words} that is not empty" if "min_length" in limits else words


def nearest_value(field: FieldInfo, given: Any) -> str | None:
    """The allowed value that is most like what was given, where there are a few to choose from."""
    kind = field.annotation
    if get_origin(kind) is tuple:
        kind = get_args(kind)[0]
    names = get_args(kind) if get_origin(kind) is Literal else ()
    return next(iter(difflib.get_close_matches(str(given), names, n=1)), None)


def _listed(names: Sequence[str], word: str) -> str:
    *most, last = [f"`{name}`" for name in names]
    return f"{', '.join(most)} {word} {last}" if most else last


def _unknown_keys(values: Mapping[str, Any], model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for key, value in values.items():
        name = f"{prefix}{key}"
        if key not in model.model_fields:
            yield name
            continue
        section = model.model_fields[key].annotation
        entry = _entry_of(section)
        if not isinstance(value, Mapping):
            continue
        if isinstance(section, type) and issubclass(section, BaseModel):
            yield from _unknown_keys(value, section, f"{name}.")
        elif entry is not None:
            for label, inner in value.items():
                if isinstance(inner, Mapping):
                    yield from _unknown_keys(inner, entry, f"{name}.{label}.")


def _entry_of(annotation: Any) -> type[BaseModel] | None:
    """What a dictionary of sections holds; `None` if it is none."""
    values = get_args(annotation)[1:] if get_origin(annotation) is dict else ()
    return next((value for value in values if isinstance(value, type) and issubclass(value, BaseModel)), None)


def _filled(leaf: str, given: str, separator: str) -> str:
    """A setting's name with `<name>` replaced by what `given` has in that place, if it has anything there."""
    parts = zip_longest(leaf.split(separator), given.split(separator)[: leaf.count(separator) + 1])
    return separator.join(mine if part.lower() == _ANY_NAME and mine else part for part, mine in parts)


def _unknown(key: str, known: list[str], where: str) -> ConfigurationError:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    if not near:
        by_last_part = {name.rpartition(".")[2]: name for name in known}
        near = [by_last_part[hit] for hit in difflib.get_close_matches(key.rpartition(".")[2], by_last_part, n=1)]
    hint = f"Did you mean `{near[0]}`?" if near else "`mlxi config show` lists all settings."
    if re.search(r"^(MLXI_)?endpoints(\.|__).+(\.|__)api_key$", key, re.IGNORECASE):
        hint = "Configuration is shared: keep the key in a variable of its own, and name that with `api_key_env`."
    return ConfigurationError(f"There is no setting `{key}`{f' (in {where})' if where else ''}.", hint=hint)
