"""`mlxi models recommend`, `search` and `show`: models that are known, whether or not they are here."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from mlx_integrations.cli.console import output, print_json, print_names, print_table, say
from mlx_integrations.cli.memory import Guess, describe, guess_as_record, guess_entry, guess_folder
from mlx_integrations.cli.models.names import entry_record
from mlx_integrations.cli.notices import show_notices
from mlx_integrations.cli.options import AnyModel, AsJson, ContextTokens, NamesOnly
from mlx_integrations.cli.parts import Invocation
from mlx_integrations.cli.text import Column, disk, memory
from mlx_integrations.errors import ModelNotFoundError

if TYPE_CHECKING:
    from mlx_integrations.manager.records import InstalledModel
    from mlx_integrations.registry import ModelEntry, Recommendation
    from mlx_integrations.registry.entry import Use

__all__ = ["find_installed", "memory_facts", "print_facts", "recommend", "search", "show"]

_Use = Annotated[
    Literal["chat", "code", "reasoning", "embedding"] | None, typer.Option("--for", help="Only models for this.")
]
_USES: Final[tuple["Use", ...]] = ("chat", "code", "reasoning", "embedding")
_SHOWN: Final = 5
_RECOMMENDED: Final = (
    Column(title="model"),
    Column(title="download", is_number=True, rank=2),
    Column(title="memory", is_number=True, rank=1),
    Column(title="", rank=3),
    Column(title="", rank=4),
)


def recommend(
    context: typer.Context,
    use: _Use = None,
    context_tokens: ContextTokens = None,
    as_json: AsJson = False,
    names_only: NamesOnly = False,
) -> None:
    """Say which models suit this machine.

    What a model takes is counted: its weights, a conversation of --context tokens, and some room to work. The best
    ones come first.
    """
    from mlx_integrations.registry import recommend as recommend_models

    invocation: Invocation = context.obj
    tokens = context_tokens or invocation.settings.models.context_tokens
    machine = replace(invocation.machine, usable_bytes=invocation.budget_bytes)
    found = {
        one: recommend_models(invocation.registry, machine, use=one, context_tokens=tokens)
        for one in (_USES if use is None else (use,))
    }
    if as_json:
        print_json({one: [_recommendation_record(item) for item in items] for one, items in found.items()})
        return
    usable = {one: [item for item in items if item.is_usable] for one, items in found.items()}
    if names_only:
        print_names(dict.fromkeys(item.entry.id for items in usable.values() for item in items))
        return
    say(f"{machine.device_name}: models may take {memory(machine.budget_bytes)} of {memory(machine.memory_bytes)}.")
    for one, items in usable.items():
        output().print(f"\n{one}", style="bold cyan")
        if items:
            print_table(_RECOMMENDED, [_recommendation_row(item) for item in items[:_SHOWN]])
        else:
            say(_why_none(found[one]))
        others = len(found[one]) - len(items[:_SHOWN])
        if items and others:
            say(f"{others} more are smaller, older or too large: mlxi models search --for {one}", style="dim")
    say(f"\nMemory is for {tokens:,} tokens of context. Next: mlxi run NAME, or mlxi models show NAME", style="dim")
    show_notices(invocation, invocation.manager.list())


def search(
    context: typer.Context,
    text: Annotated[str, typer.Argument(help="Words, such as qwen coder; left out: all models.")] = "",
    use: _Use = None,
    include_all: Annotated[bool, typer.Option("--all", help="Also models that have been replaced.")] = False,
    as_json: AsJson = False,
    names_only: NamesOnly = False,
) -> None:
    """Search the models that this program knows about.

    Any other model in MLX format from the Hugging Face Hub can be pulled by its repository's name.
    """
    invocation: Invocation = context.obj
    found = invocation.registry.search(text, use=use, include_deprecated=include_all)
    if as_json:
        print_json([entry_record(entry) for entry in found])
    elif names_only:
        print_names(entry.id for entry in found)
    elif not found:
        say(f"No known model matches `{text}`. mlxi models search lists all of them.")
    else:
        print_table(
            (
                Column(title="model"),
                Column(title="download", is_number=True, rank=1),
                Column(title="weights", rank=4),
                Column(title="context", is_number=True, rank=5),
                Column(title="good for", rank=3),
                Column(title="repository", rank=6),
            ),
            [_search_row(entry) for entry in found],
        )


def show(
    context: typer.Context, model: AnyModel, context_tokens: ContextTokens = None, as_json: AsJson = False
) -> None:
    """Show what is known about a model: its size, what it can do, whether it fits, where it is."""
    invocation: Invocation = context.obj
    entry = invocation.registry.get(model)
    installed = find_installed(invocation, model)
    if entry is None and installed is None:
        raise _not_found(invocation, model)
    record: dict[str, Any] = entry_record(entry) if entry else {"id": installed.name if installed else model}
    record |= {"path": str(installed.path) if installed else None}
    guess = guess_entry(invocation, entry, context_tokens) if entry else None
    if installed is not None and installed.is_complete:
        guess = guess_folder(invocation, installed.path, context_tokens, kind=installed.kind) or guess
    if as_json:
        print_json({**record, "memory": guess_as_record(guess) if guess else None})
        return
    facts = _facts(entry) if entry else [("model", record["id"])]
    if installed is not None and entry is None:
        facts += [("size", disk(installed.size_bytes)), ("good for", installed.kind or "unknown")]
    if guess is not None:
        facts += memory_facts(invocation, guess)
    facts.append(("here", str(installed.path) if installed else f"no; to get it: mlxi models pull {record['id']}"))
    if installed is not None and not installed.is_usable:
        facts.append(("", installed.reason))
    print_facts(facts)


def find_installed(invocation: Invocation, model: str) -> "InstalledModel | None":
    """The model of that name on this machine."""
    try:
        return invocation.manager.find(model)
    except ModelNotFoundError:
        return None


def memory_facts(invocation: Invocation, guess: Guess) -> list[tuple[str, str]]:
    """What a model takes, as facts."""
    return [("" if at else "memory", line) for at, line in enumerate(describe(guess, invocation.machine))]


def print_facts(facts: Sequence[tuple[str, str]]) -> None:
    """What is known, line by line, to stdout."""
    width = max(len(name) for name, _ in facts)
    for name, value in facts:
        output().print(f"{name:<{width}}  {value}", markup=False, soft_wrap=True)


def _facts(entry: "ModelEntry") -> list[tuple[str, str]]:
    """What the registry says, in the order in which people ask."""
    can = [name for name in ("tools", "vision", "reasoning") if getattr(entry, name)]
    facts = {
        "model": f"{entry.name} ({entry.id})",
        "made by": entry.publisher,
        "repository": entry.repo_id,
        "licence": entry.license,
        "good for": ", ".join(entry.best_for),
        "can do": ", ".join(can).replace("vision", "images").replace("reasoning", "thinking first"),
        "languages": ", ".join(entry.languages),
        "size": _size(entry),
        "weights": entry.quantization.label if entry.quantization else None,
        "parameters": f"{entry.parameters / 1e9:.1f} billion" if entry.parameters else None,
        "context": f"{entry.context_window:,} tokens" if entry.context_window else None,
        "dimensions": str(entry.dimensions) if entry.dimensions else None,
        "replaces": ", ".join(entry.replaces),
        "note": entry.deprecated,
    }
    return [(name, value) for name, value in facts.items() if value]


def _size(entry: "ModelEntry") -> str:
    return disk(entry.download_bytes) if entry.download_bytes else ""


def _search_row(entry: "ModelEntry") -> tuple[str, ...]:
    return (
        entry.id,
        _size(entry),
        entry.quantization.label if entry.quantization else "",
        f"{entry.context_window:,}" if entry.context_window else "",
        ", ".join(entry.best_for),
        entry.repo_id or "",
    )


def _recommendation_row(item: "Recommendation") -> tuple[str, ...]:
    needed = memory(item.fit.needed_bytes) if item.fit else ""
    return (item.entry.id, _size(item.entry), needed, item.fit.verdict if item.fit else "", item.entry.name)


def _why_none(items: "Sequence[Recommendation]") -> str:
    """What stands in the way of every model for a use."""
    needed = [item.fit.needed_bytes for item in items if item.fit is not None]
    return f"None fits: the smallest needs {memory(min(needed))}." if needed else "None is known."


def _recommendation_record(item: "Recommendation") -> dict[str, Any]:
    guess = (item.estimate, item.fit) if item.estimate and item.fit else None
    return {
        "id": item.entry.id,
        "is_usable": item.is_usable,
        "reason": item.reason,
        "memory": guess_as_record(guess) if guess else None,
    }


def _not_found(invocation: Invocation, model: str) -> ModelNotFoundError:
    near = invocation.registry.suggest(model)
    return ModelNotFoundError(
        f"There is no model `{model}` on this machine or among those that are known.",
        model=model,
        suggestions=near,
        hint=None if near else "Look at a repository of the Hugging Face Hub with: mlxi models pull ORG/NAME --dry-run",
    )
