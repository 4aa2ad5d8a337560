"""`mlxi config`: what is set, to what, and where that comes from."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlx_integrations.cli.completion import complete_setting
from mlx_integrations.cli.console import print_json, print_table, say
from mlx_integrations.cli.frame import add, group
from mlx_integrations.cli.options import AsJson
from mlx_integrations.cli.parts import Invocation
from mlx_integrations.cli.text import Column
from mlx_integrations.errors import ConfigurationError

if TYPE_CHECKING:
    from mlx_integrations.settings import Origin, Settings

__all__ = ["app", "config_file", "short_path"]

_MASK = "********"

app = group("Show and change settings.", no_args_is_help=True)

_Key = Annotated[
    str, typer.Argument(help="A setting, such as models.default.", autocompletion=complete_setting, show_default=False)
]
_Project = Annotated[bool, typer.Option("--project", help="In ./mlxi.toml, for this folder, instead of your own file.")]


def show(
    context: typer.Context,
    section: Annotated[
        str | None, typer.Argument(help="Only settings that begin with this, such as runtime.", show_default=False)
    ] = None,
    changed: Annotated[bool, typer.Option("--changed", help="Only those that are not at their defaults.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print every setting with its value and where that comes from. Secrets are never printed."""
    invocation: Invocation = context.obj
    # First, because settings that are in use set variables for other libraries, as `offline` does.
    origins = _origins(invocation)
    values = _values(invocation.settings)
    chosen = [
        key
        for key in values
        if (section is None or key == section or key.startswith(f"{section}.")) and (not changed or key in origins)
    ]
    if not chosen and section is not None and not changed:
        raise _no_such_setting(section)
    if as_json:
        print_json([_record(key, values[key], origins.get(key)) for key in chosen])
        return
    rows = [(key, _shown(values[key]), _place(origins.get(key))) for key in chosen]
    print_table([Column(title="setting"), Column(title="value"), Column(title="from")], rows)


def get(context: typer.Context, key: _Key, as_json: AsJson = False) -> None:
    """Print the value of one setting."""
    invocation: Invocation = context.obj
    origins = _origins(invocation)
    values = _values(invocation.settings)
    if key not in values:
        raise _no_such_setting(key)
    if as_json:
        print_json(_record(key, values[key], origins.get(key)))
    else:
        typer.echo(_shown(values[key]))


def set_(
    context: typer.Context,
    key: _Key,
    value: Annotated[str, typer.Argument(help="Its new value; folders are separated by colons.", show_default=False)],
    project: _Project = False,
) -> None:
    """Set one setting in your configuration file. Everything else in the file stays, comments included."""
    from mlx_integrations.settings.edit import write_setting

    path = config_file(project)
    written = write_setting(path, key, value)
    say(f"{key} = {_shown(written)} in {short_path(path)}")
    invocation: Invocation = context.obj
    origin = _origins(invocation).get(key)
    if origin is not None and Path(origin.place).absolute() != path.absolute():
        say(f"mlxi: {origin} is stronger than this file and goes on saying otherwise.", style="yellow")


def unset(key: _Key, project: _Project = False) -> None:
    """Take one setting out of your configuration file, so that its default holds again."""
    from mlx_integrations.settings.edit import remove_setting

    path = config_file(project)
    if remove_setting(path, key):
        say(f"{key} is no longer set in {short_path(path)}")
    else:
        say(f"{key} was not set in {short_path(path)}")


def path_(context: typer.Context, as_json: AsJson = False) -> None:
    """Print where your configuration file is, or would be."""
    from mlx_integrations.settings.sources import PROJECT_FILE

    user = config_file(False)
    if as_json:
        places = {"user": user, "project": PROJECT_FILE.absolute()}
        print_json({name: {"path": str(path), "exists": path.is_file()} for name, path in places.items()})
    else:
        typer.echo(str(user))


def config_file(project: bool) -> Path:
    """The file that is changed: the one that is there, TOML before JSON."""
    from mlx_integrations.settings import user_config_path
    from mlx_integrations.settings.sources import PROJECT_FILE

    path = PROJECT_FILE.absolute() if project else user_config_path()
    other = path.with_suffix(".json")
    return other if other.is_file() and not path.is_file() else path


def _values(settings: "Settings") -> dict[str, Any]:
    """Every setting by its dotted name."""
    from pydantic import BaseModel

    found: dict[str, Any] = {}

    def collect(prefix: str, value: Any) -> None:
        if isinstance(value, BaseModel):
            value = {name: getattr(value, name) for name in type(value).model_fields}
        if isinstance(value, dict):
            for name, inner in value.items():
                collect(f"{prefix}.{name}" if prefix else name, inner)
        else:
            found[prefix] = value

    collect("", settings)
    return found


def _origins(invocation: Invocation) -> "dict[str, Origin]":
    from mlx_integrations.settings import find_origins

    return find_origins(**invocation.overrides)


def _shown(value: Any) -> str:
    """A value as it would stand in the file; nothing for one that is left out."""
    from pydantic import SecretStr

    if value is None:
        return ""
    if isinstance(value, SecretStr):
        return _MASK
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (tuple, list)):
        return (":" if all(isinstance(part, Path) for part in value) else ",").join(str(part) for part in value)
    return _without_password(str(value))


def _without_password(text: str) -> str:
    """An address without what stands between `//` and `@`."""
    start, separator, rest = text.partition("://")
    secret, at, host = rest.partition("@")
    return f"{start}{separator}{_MASK}@{host}" if separator and at and "/" not in secret else text


def _record(key: str, value: Any, origin: "Origin | None") -> dict[str, Any]:
    from pydantic import SecretStr

    if isinstance(value, SecretStr) or (isinstance(value, str) and _shown(value) != value):
        value = _shown(value)
    elif isinstance(value, tuple):
        value = [str(part) for part in value]
    elif isinstance(value, Path):
        value = str(value)
    place = {"kind": origin.kind, "place": origin.place or None, "line": origin.line} if origin else {"kind": "default"}
    return {"setting": key, "value": value, "from": place}


def _place(origin: "Origin | None") -> str:
    return "default" if origin is None else short_path(str(origin))


def short_path(path: str | Path) -> str:
    """A path with `~` for the home folder."""
    home = str(Path.home())
    text = str(path)
    return f"~{text[len(home) :]}" if text.startswith(home + "/") else text


def _no_such_setting(key: str) -> ConfigurationError:
    from mlx_integrations.settings import Settings
    from mlx_integrations.settings.checks import unknown_setting

    return unknown_setting(key, Settings)


add(app, show)
add(app, get)
add(app, set_, name="set")
add(app, unset)
add(app, path_, name="path")
