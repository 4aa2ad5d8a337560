"""Writes the pages of docs/reference: cli.md from the command line's own help, configuration.md from the settings,
models.md from the catalogue.

python -m tests.docs.reference     after a change of any; a test holds the pages against what this would write
"""

import ast
import inspect
import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from typer.core import TyperArgument, TyperGroup

from mlx_integrations.cli.exit_codes import MEANINGS
from mlx_integrations.cli.main import app
from mlx_integrations.settings import Settings, model, sections
from mlx_integrations.settings.checks import allowed_values
from mlx_integrations.settings.sources import SECRETS
from tests.docs.models_page import models_page

REFERENCE = Path(__file__).parent.parent.parent / "docs" / "reference"

_GENERATED = "<!-- Written by `python -m tests.docs.reference`; change the code that it describes instead. -->\n"

_CLI_INTRO = """# Command line

`mlxi`, or `mlx-integrations`.

What a command finds goes to stdout, everything else to stderr. Every list has `--json` for programs, and lists of
models have `-q` for bare names. Nothing is asked where there is no terminal: say `--yes` beforehand. `NO_COLOR` is
honoured. Options of `mlxi` itself stand before the command: `mlxi --offline models list`.

`mlxi --install-completion` teaches your shell the commands, their options and the names of models.

## Exit codes

"""

_CONFIG_INTRO = """# Configuration

Each place wins over the ones after it:

1. arguments: `Settings(runtime={"max_batch_size": 8})`, and options such as `mlxi --offline`
2. `MLXI_*` variables, then those of the Hugging Face Hub that are named below
3. `.env` in the working directory (only its `MLXI_*` lines)
4. `mlxi.toml`, then `mlxi.json`, in the working directory: for a project
5. your own file: `mlxi config path` says where it is, and `MLXI_CONFIG` names another one. On macOS that is
   `~/Library/Application Support/mlxi/config.toml`, elsewhere `~/.config/mlxi/config.toml`, which counts on macOS too.
   `config.json` beside it is read as well.
6. the defaults

`mlxi config show` prints every setting with its value and where that comes from. `mlxi config set KEY VALUE` changes
your own file and leaves everything else in it as it is. A setting that does not exist is an error, which names the
file, the line and the nearest setting that does.

A file with all settings is [config/mlxi.toml](../../config/mlxi.toml); shorter ones are beside it:
[basic.toml](../../config/basic.toml), [embeddings.toml](../../config/embeddings.toml),
[several-endpoints.toml](../../config/several-endpoints.toml), [router.toml](../../config/router.toml) and
[privacy-first.toml](../../config/privacy-first.toml).

A variable is `MLXI_`, the section, two underscores and the name: `runtime.max_batch_size` is
`MLXI_RUNTIME__MAX_BATCH_SIZE`. An empty one counts as not set.
"""

_CONFIG_END = """## Variables of other programs

| variable | what it does here |
|---|---|
| `HF_HUB_OFFLINE`, `TRANSFORMERS_OFFLINE` | `offline = true` |
| `HF_HUB_CACHE`, or `HF_HOME` with `/hub` after it | `hub.cache_dir` |
| `HF_ENDPOINT` | `hub.endpoint` |
| `HF_TOKEN` | `hub.token` |
| `NO_COLOR` | no colours in the terminal |
| `CI` | no notices about models |

## Secrets

A token is never read from a configuration file, because these are shared: run `hf auth login`, or set `HF_TOKEN`. It is
never printed; `mlxi config show` prints stars. The key of an endpoint is in the variable that `api_key_env` names, or
in the usual one of its kind, such as `OPENAI_API_KEY`.

## If you come from Wooster

The settings that Wooster's plan for its LocalMLX plugin names, and what has their place here:

| there | here |
|---|---|
| `LOCALMLX_DEFAULT_MODEL` | `models.default` |
| `LOCALMLX_MODELS_DIR` | `hub.cache_dir` for downloads, `models.folders` for models that are elsewhere |
| `LOCALMLX_MAX_TOKENS` | `runtime.default_max_tokens`, or `max_tokens` of one request |
| `LOCALMLX_TEMPERATURE` | `temperature` of a request or of `ChatMLX`; it is no setting of the machine |
| `LOCALMLX_QUANTIZATION` | part of the model's name, such as `-4bit` |
| `LOCALMLX_OFFLOAD_INACTIVE` | `runtime.idle_unload_seconds` |
| `LOCALMLX_ENABLE_CACHE` | `runtime.prefix_cache_bytes`: prompts are remembered, answers are not |
| `LOCALMLX_STREAM_RESPONSES` | every answer can be streamed |
| `LOCALMLX_AUTO_DOWNLOAD` | `mlxi run NAME` asks; Python code never downloads by itself |
| `LOCALMLX_SERVER_URL`, `LOCALMLX_AUTO_START_SERVER` | models run in your own process, there is no server to start |
"""


def cli_page() -> str:
    """docs/reference/cli.md."""
    codes = "".join(f"| {code.value} | {meaning} |\n" for code, meaning in MEANINGS.items())
    root = typer.main.get_command(app)
    parts = [_GENERATED, _CLI_INTRO, "| code | meaning |\n|---|---|\n", codes]
    for name, command in _commands("mlxi", root):
        parts.append(f"\n## {name}\n\n{_plain(command.help)}\n")
        rows = [row for param in command.params if (row := _param_row(param))]
        if rows:
            parts.append("\n| | |\n|---|---|\n" + "".join(rows))
        if isinstance(command, TyperGroup):
            names = ", ".join(f"[{one}](#{f'{name}-{one}'.replace(' ', '-')})" for one in command.commands)
            parts.append(f"\nCommands: {names}\n")
    return "".join(parts)


def configuration_page() -> str:
    """docs/reference/configuration.md."""
    texts = _descriptions()
    parts = [_GENERATED, _CONFIG_INTRO, "\n## Settings of all parts\n\n", _table(Settings, "", texts)]
    for name, field in Settings.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            title = inspect.cleandoc(section.__doc__ or "").splitlines()[0]
            parts.append(f"\n## [{name}]\n\n{title}\n\n{_table(section, f'{name}.', texts)}")
        elif named := _named_sections(section):
            title = inspect.cleandoc(named.__doc__ or "").splitlines()[0]
            parts.append(f"\n## [{name}.<name>]\n\n{title}\n\n{_table(named, f'{name}.<name>.', texts)}")
    parts.append("\n" + _CONFIG_END)
    return "".join(parts)


def _commands(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    yield name, command
    if isinstance(command, TyperGroup):
        for child, inner in command.commands.items():
            yield from _commands(f"{name} {child}", inner)


def _param_row(param: Any) -> str:
    if getattr(param, "hidden", False) or param.name == "help":
        return ""
    if isinstance(param, TyperArgument):
        names = f"`{param.name.rstrip('_').upper()}`"
    else:
        value = "" if getattr(param, "is_flag", False) else f" {param.name.upper()}"
        names = ", ".join(f"`{opt}{value}`" for opt in (*param.opts, *param.secondary_opts))
    note = " Required." if param.required else ""
    return f"| {names} | {_plain(param.help or '')}{note} |\n"


def _plain(text: str | None) -> str:
    """Help without rich's marks."""
    return re.sub(r"\[(bold|/)\]", "`", text or "").replace("|", "\\|")


def _table(section: type[BaseModel], prefix: str, texts: dict[tuple[str, str], str]) -> str:
    rows = ""
    for key, field, owner in _settings(section, prefix):
        text = texts[owner.__name__, key.rpartition(".")[2]]
        rows += f"| `{key}` | {allowed_values(field)} | {_default(key, field)} | {text} |\n"
    return f"| setting | what it can be | default | |\n|---|---|---|---|\n{rows}"


def _named_sections(annotation: Any) -> type[BaseModel] | None:
    """What each of the sections is whose names people choose."""
    return next((one for one in get_args(annotation) if isinstance(one, type) and issubclass(one, BaseModel)), None)


def _settings(section: type[BaseModel], prefix: str) -> Iterator[tuple[str, FieldInfo, type[BaseModel]]]:
    """The settings of a section, each with the class it is written in; sections inside `Settings` are left out."""
    for name, field in section.model_fields.items():
        inner = _named_sections(field.annotation)
        if inner and prefix:
            yield from _settings(inner, f"{prefix}{name}.<name>.")
        elif inner:
            continue
        elif not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            yield f"{prefix}{name}", field, section
        elif prefix:
            yield from _settings(field.annotation, f"{prefix}{name}.")


def _descriptions() -> dict[tuple[str, str], str]:
    """The text under each setting in the source, by class and name."""
    found = {}
    for module in (model, sections):
        for owner in ast.parse(inspect.getsource(module)).body:
            if not isinstance(owner, ast.ClassDef):
                continue
            for field, text in pairwise(owner.body):
                if (
                    isinstance(field, ast.AnnAssign)
                    and isinstance(field.target, ast.Name)
                    and isinstance(text, ast.Expr)
                ):
                    value = ast.literal_eval(text.value)
                    found[owner.name, field.target.id] = " ".join(value.split()).replace("`None`", "left out")
    return found


def _default(key: str, field: FieldInfo) -> str:
    value = field.default
    if key in SECRETS or value in (None, (), PydanticUndefined):
        return ""
    if isinstance(value, tuple):
        return ", ".join(f"`{item}`" for item in value)
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def main() -> None:
    """Write the pages."""
    REFERENCE.mkdir(exist_ok=True)
    for name, text in PAGES.items():
        (REFERENCE / name).write_text(text(), encoding="utf-8")


PAGES: dict[str, Callable[[], str]] = {
    "cli.md": cli_page,
    "configuration.md": configuration_page,
    "models.md": lambda: models_page(_GENERATED),
}

if __name__ == "__main__":
    main()
