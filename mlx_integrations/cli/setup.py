"""`mlxi setup`: from a new installation to models that answer, in a few questions."""

import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Final

import typer

from mlx_integrations.cli.completion import complete_any_model
from mlx_integrations.cli.console import is_interactive, say
from mlx_integrations.cli.exit_codes import ExitCode
from mlx_integrations.cli.options import Force, Offline, Yes
from mlx_integrations.cli.parts import Invocation
from mlx_integrations.errors import MLXIntegrationsError, MLXUnavailableError

if TYPE_CHECKING:
    from mlx_integrations.cli.wizard.choosing import Pick
    from mlx_integrations.cli.wizard.offers import Kind

__all__ = ["setup"]

_SETTINGS: Final[Mapping["Kind", str]] = {"chat": "models.default", "embedding": "embedding.default"}
_HINT: Final = "It asks questions, and there is no terminal to ask them in. Try: mlxi setup --yes --model NAME"


def setup(
    context: typer.Context,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="The chat model, instead of a menu.", autocompletion=complete_any_model),
    ] = None,
    embedding: Annotated[
        str | None,
        typer.Option(
            "--embedding", "-e", help="The embedding model, instead of a menu.", autocompletion=complete_any_model
        ),
    ] = None,
    yes: Yes = False,
    force: Force = False,
    offline: Offline = False,
) -> None:
    """Choose the models that are used when none is named, download them, and try them.

    Says what this machine can do, shows what is here and what could be downloaded, with the memory it takes, and writes
    your configuration file at the very end. It can be left at any question with q or Ctrl-D, and at any time with
    Ctrl-C; nothing is written then. Run again, it goes on with what is there, interrupted downloads included.

    With --yes nothing is asked: name the models with --model and --embedding.
    """
    from mlx_integrations.cli.menus import LeftError, tell

    invocation: Invocation = context.obj
    if offline:
        invocation.overrides["offline"] = True
    named: dict[Kind, str | None] = {"chat": model or invocation.model, "embedding": embedding}
    if yes and not any(named.values()):
        raise typer.BadParameter("Name the model that is to be set up.", param_hint="--model")
    if not yes and not is_interactive():
        raise typer.BadParameter(_HINT, param_hint="--yes")
    try:
        _set_up(invocation, named, is_asked=not yes, force=force or invocation.settings.force)
    except LeftError:
        tell("Left. Your settings are as they were.")
        raise typer.Exit(ExitCode.DONE) from None
    except KeyboardInterrupt:
        tell("\nLeft. Your settings are as they were; `mlxi setup` goes on with what is there.")
        raise
    except MLXIntegrationsError:
        tell("Your settings are as they were.")
        raise


def _set_up(invocation: Invocation, named: "Mapping[Kind, str | None]", *, is_asked: bool, force: bool) -> None:
    """All steps, one after the other; the settings are written last."""
    from mlx_integrations.cli.wizard.getting import get, try_out
    from mlx_integrations.cli.wizard.saving import save

    if is_asked:
        _introduce(invocation)
    picks = _choose(invocation, named, is_asked=is_asked, force=force)
    if is_asked:
        _tell_of_keys()
    get(invocation, picks, is_asked=is_asked, force=force)
    for pick in picks:
        try_out(invocation, pick)
    save(invocation, {_SETTINGS[pick.kind]: pick.name for pick in picks}, is_asked=is_asked)
    _tell_what_next(invocation, {pick.kind: pick.name for pick in picks})


def _introduce(invocation: Invocation) -> None:
    """Say what will happen, and what this machine can do."""
    from mlx_integrations.cli.menus import tell, tell_facts
    from mlx_integrations.cli.wizard.choosing import judge_known
    from mlx_integrations.cli.wizard.explaining import describe_machine
    from mlx_integrations.manager.plan import free_disk_bytes

    machine = invocation.machine
    if machine.is_translated:
        raise MLXUnavailableError(
            "This Python is built for Intel and runs under Rosetta, where MLX cannot.", hint="See: mlxi doctor"
        )
    tell("Setting up: which models are used when none is named", style="bold")
    tell("Nothing is written before the end. q leaves at any question.\n", style="dim")
    cache_dir = invocation.manager.cache_dir
    facts = describe_machine(
        machine,
        budget_bytes=invocation.budget_bytes,
        cache_dir=cache_dir,
        free_disk_bytes=free_disk_bytes(cache_dir),
        context_tokens=invocation.settings.models.context_tokens,
        chat_models=judge_known(invocation, "chat"),
    )
    tell_facts(facts)


def _choose(invocation: Invocation, named: "Mapping[Kind, str | None]", *, is_asked: bool, force: bool) -> "list[Pick]":
    """The models: those that were named, and those that are chosen from a menu."""
    from mlx_integrations.cli.wizard.choosing import choose, pick
    from mlx_integrations.settings import find_origins

    origins = find_origins(**invocation.overrides)
    defaults: dict[Kind, str] = {
        "chat": invocation.settings.models.default,
        "embedding": invocation.settings.embedding.default,
    }
    picks = []
    for kind, name in named.items():
        if name is not None:
            picks.append(pick(invocation, kind, name, force=force))
        elif is_asked:
            chosen = defaults[kind] if _SETTINGS[kind] in origins else None
            picks.append(choose(invocation, kind, chosen=chosen, force=force))
    return picks


def _tell_of_keys() -> None:
    from mlx_integrations.cli.menus import read_line, tell, tell_facts
    from mlx_integrations.cli.wizard.explaining import cloud_key_lines

    keys, meaning, commands = cloud_key_lines(os.environ, is_mac=sys.platform == "darwin")
    tell("\nCloud keys", style="bold")
    tell(meaning)
    tell_facts([(name, "set" if is_set else "not set") for name, is_set in keys])
    tell("To set one without leaving it in your shell's history:", style="dim")
    for command in commands:
        say(f"  {command}")
    read_line("Enter goes on, q leaves: ")


def _tell_what_next(invocation: Invocation, chosen: "Mapping[Kind, str]") -> None:
    from mlx_integrations.cli.menus import tell, tell_facts
    from mlx_integrations.cli.wizard.explaining import next_commands

    settings = invocation.settings
    tell("\nReady. Next:", style="bold")
    tell_facts(
        next_commands(chosen.get("chat", settings.models.default), chosen.get("embedding", settings.embedding.default))
    )
