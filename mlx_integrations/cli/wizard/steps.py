"""The steps of `mlxi setup`, one after the other; the settings are written in the last one."""

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Final

from mlx_integrations.cli.console import say
from mlx_integrations.cli.menus import read_line, read_word, tell, tell_facts, tell_failure
from mlx_integrations.cli.parts import Invocation
from mlx_integrations.cli.wizard.choosing import Pick, choose, judge_known, pick
from mlx_integrations.cli.wizard.explaining import cloud_key_lines, describe_machine, next_commands
from mlx_integrations.cli.wizard.getting import get, try_out
from mlx_integrations.cli.wizard.offers import Kind
from mlx_integrations.cli.wizard.saving import save
from mlx_integrations.errors import MLXIntegrationsError, MLXUnavailableError

__all__ = ["set_up"]

_SETTINGS: Final[Mapping[Kind, str]] = {"chat": "models.default", "embedding": "embedding.default"}
_AFTER_FAILURE: Final = {
    "again": "try again; what was downloaded is kept",
    "choose": "choose other models",
}


def set_up(invocation: Invocation, named: Mapping[Kind, str | None], *, is_asked: bool, force: bool) -> None:
    """Lead from what is there to settings whose models are known to work.

    Args:
        invocation: This machine, its models, the settings.
        named: The models that were named, by what they are for.
        is_asked: Whether there is a person who answers questions.
        force: Whether models may be too large.

    Raises:
        LeftError: The person does not want to go on.
        MLXIntegrationsError: It cannot be done, and there is nobody to ask what then.
    """
    _require_mlx(invocation)
    if is_asked:
        _introduce(invocation)
    picks = _choose(invocation, named, is_asked=is_asked, force=force)
    if is_asked:
        _tell_of_keys()
    while not _prepare(invocation, picks, is_asked=is_asked, force=force):
        picks = _choose(invocation, {}, is_asked=is_asked, force=force)
    chosen = {one.kind: one.name for one in picks}
    if chosen:
        save(invocation, {_SETTINGS[kind]: name for kind, name in chosen.items()}, is_asked=is_asked)
    else:
        tell("\nNothing was chosen: your settings are as they were.")
    _tell_what_next(invocation, chosen)


def _require_mlx(invocation: Invocation) -> None:
    """End here where no model could run: before questions are asked, and before gigabytes are downloaded.

    Raises:
        MLXUnavailableError: MLX cannot run in this Python.
    """
    from mlx_integrations.runtime.device import require_mlx

    if invocation.machine.is_translated:
        raise MLXUnavailableError(
            "This Python is built for Intel and runs under Rosetta, where MLX cannot.", hint="See: mlxi doctor"
        )
    require_mlx(blas_preload=invocation.settings.runtime.blas_preload)


def _introduce(invocation: Invocation) -> None:
    """Say what will happen, and what this machine can do."""
    from mlx_integrations.manager.plan import free_disk_bytes

    tell("Setting up: which models are used when none is named", style="bold")
    tell("Nothing is written before the end. q leaves at any question.\n", style="dim")
    cache_dir = invocation.manager.cache_dir
    facts = describe_machine(
        invocation.machine,
        budget_bytes=invocation.budget_bytes,
        cache_dir=cache_dir,
        free_disk_bytes=free_disk_bytes(cache_dir),
        context_tokens=invocation.settings.models.context_tokens,
        chat_models=judge_known(invocation, "chat"),
    )
    tell_facts(facts)


def _choose(invocation: Invocation, named: Mapping[Kind, str | None], *, is_asked: bool, force: bool) -> list[Pick]:
    """The models: those that were named, and those that are chosen from a menu."""
    from mlx_integrations.settings import find_origins

    origins = find_origins(**invocation.overrides)
    defaults: dict[Kind, str] = {
        "chat": invocation.settings.models.default,
        "embedding": invocation.settings.embedding.default,
    }
    picks: list[Pick | None] = []
    for kind, default in defaults.items():
        name = named.get(kind)
        if name is not None:
            picks.append(pick(invocation, kind, name, force=force))
        elif is_asked:
            chosen = default if _SETTINGS[kind] in origins else None
            picks.append(choose(invocation, kind, chosen=chosen, force=force))
    return [one for one in picks if one is not None]


def _tell_of_keys() -> None:
    """Say where cloud keys belong, and which are set. None is asked for: what is typed here could be seen."""
    keys, meaning, commands = cloud_key_lines(os.environ, is_mac=sys.platform == "darwin")
    tell("\nCloud keys", style="bold")
    tell(meaning)
    tell_facts([("set" if is_set else "not set", name) for name, is_set in keys])
    tell("To set one without leaving it in your shell's history:", style="dim")
    for command in commands:
        say(f"  {command}")
    read_line("Enter goes on, q leaves: ")


def _prepare(invocation: Invocation, picks: Sequence[Pick], *, is_asked: bool, force: bool) -> bool:
    """Download the models and try them. Where that fails, a person is asked what then.

    Returns:
        Whether they work; if not, others are to be chosen.
    """
    while True:
        try:
            if not get(invocation, picks, is_asked=is_asked, force=force):
                return False
            for one in picks:
                try_out(invocation, one)
        except (MLXIntegrationsError, OSError) as error:
            if not is_asked:
                raise
            tell_failure(error)
            if read_word("\nWhat now?", _AFTER_FAILURE) == "choose":
                return False
        else:
            return True


def _tell_what_next(invocation: Invocation, chosen: Mapping[Kind, str]) -> None:
    settings = invocation.settings
    tell("\nReady. Next:", style="bold")
    tell_facts(
        next_commands(chosen.get("chat", settings.models.default), chosen.get("embedding", settings.embedding.default))
    )
