"""docs/reference/models.md: the models of the catalogue, and the fields of an entry, from the files that say so."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from mlx_integrations.registry import ModelEntry, ModelRegistry
from mlx_integrations.registry.fetching import MAX_BODY_BYTES
from mlx_integrations.registry.reading import MAX_ENTRIES
from mlx_integrations.registry.selection import memory_needs

__all__ = ["models_page"]

_SCHEMA: Final = Path(__file__).parent.parent.parent / "config" / "models-registry.schema.json"
_GIB: Final = 1024**3

_INTRO = """# Known models

The models that have a short name. `mlxi models search` lists them, `mlxi models recommend` says which of them suit a
machine, `mlxi models show NAME` tells all that is known of one. Any other repository of the Hugging Face Hub goes by
its own name.

The facts are those of {updated}. What is not known for certain is left out; each entry's `sources` say where its facts
come from. Memory is what weights, caches and work take on a GPU, computed from the architecture: with a context of
2,048 tokens, and with one of 32,768 or the whole window, whichever is shorter. A CPU takes more, because weights become
float32 there; `mlxi estimate NAME` counts for your machine.

"""

_LISTS = """
## Lists of your own

The catalogue is made of up to three lists. An entry of a stronger list replaces the whole entry of the same `id`.

1. your own: `models.toml` or `models.json` beside your configuration file, or the file that `registry.user_file` names
2. a remote one: the address in `registry.url`; there is none unless you set one
3. the one in the package

`id`, `name` and `kind` are all that an entry needs. A mistake in your own file is an error that names the entry and the
field; of a remote list, entries that are not valid are left out.

```toml
[[models]]
id = "house-model"
name = "Our fine-tuned model"
kind = "chat"
repo_id = "our-team/house-model-4bit"
best_for = ["chat"]
context_window = 32_768
```

## A list for a team

Copy [config/models-registry.json](../../config/models-registry.json), change what you like, and put it on any web
server: a page of your Git host or a bucket will do. Check it against
[its schema](../../config/models-registry.schema.json). Then set its address for everybody:

```toml
[registry]
url = "https://models.example.com/models-registry.json"
```

- `mlxi` asks for it at most once in 24 hours (`registry.refresh_hours`) and sends the ETag it was given, so that an
  unchanged list costs a few bytes. Python code asks for nothing; it uses what the last command brought.
- A server that does not answer within six seconds, or answers with anything but a list, changes nothing. It is asked
  again an hour later.
- The address begins with `https://`; plain `http://` is for this machine only. Redirects to another server are not
  followed.
- A list has at most {max_entries:,} entries and {max_mib:.0f} MiB, and is sent without compression.
- With `offline`, nothing is asked, and what is in the cache still counts.

## Fields of an entry

| field | what it can be | |
|---|---|---|
"""


def models_page(generated: str) -> str:
    """The page.

    Args:
        generated: The line that says where it comes from.
    """
    registry = ModelRegistry.embedded()
    listed = [entry for entry in registry.search() if entry.repo_id]
    chat = [entry for entry in listed if entry.kind == "chat"]
    embedding = [entry for entry in listed if entry.kind == "embedding"]
    schema = json.loads(_SCHEMA.read_text(encoding="utf-8"))
    fields = schema["$defs"]["entry"]["properties"]
    return "".join(
        (
            generated,
            _INTRO.format(updated=registry.updated),
            "## Chat\n\n",
            _table(
                ("name", "size", "weights", "memory", "context", "good for", "licence"),
                map(_chat_row, chat),
            ),
            "\n## Embeddings\n\n",
            _table(("name", "size", "dimensions", "reads tokens", "licence"), map(_embedding_row, embedding)),
            _LISTS.format(max_entries=MAX_ENTRIES, max_mib=MAX_BODY_BYTES / 2**20),
            *(f"| `{name}` | {_allowed(rule)} | {rule.get('description', '')} |\n" for name, rule in fields.items()),
        )
    )


def _chat_row(entry: ModelEntry) -> tuple[str, ...]:
    needs = memory_needs(entry)
    return (
        _link(entry),
        _size(entry.download_bytes),
        entry.quantization.label if entry.quantization else "",
        f"{_gib(needs.minimum_bytes)} to {_gib(needs.recommended_bytes)} GiB" if needs else "",
        f"{entry.context_window:,}" if entry.context_window else "",
        ", ".join(entry.best_for),
        entry.license or "",
    )


def _embedding_row(entry: ModelEntry) -> tuple[str, ...]:
    return (
        _link(entry),
        _size(entry.download_bytes),
        f"{entry.dimensions:,}" if entry.dimensions else "",
        f"{entry.max_tokens:,}" if entry.max_tokens else "",
        entry.license or "",
    )


def _link(entry: ModelEntry) -> str:
    return f"[{entry.id}](https://huggingface.co/{entry.repo_id})"


def _size(count: int | None) -> str:
    if count is None:
        return ""
    return f"{count / 10**9:.1f} GB" if count >= 950 * 10**6 else f"{count / 10**6:.0f} MB"


def _gib(count: int) -> str:
    return f"{count / _GIB:.1f}"


def _table(columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    head = f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}\n"
    return head + "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _allowed(rule: Mapping[str, Any]) -> str:
    if "enum" in rule:
        return " or ".join(f"`{value}`" for value in rule["enum"])
    if rule["type"] == "array":
        return f"a list: {_allowed(rule['items'])}"
    return {
        "string": f"text of at most {rule.get('maxLength')} characters",
        "integer": "a whole number",
        "boolean": "true or false",
        "object": "a table",
    }[rule["type"]]
