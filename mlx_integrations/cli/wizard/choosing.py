"""Choosing a model: the menu, what people type into it, and what the choice would take."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from mlx_integrations.cli.memory import guess_folder
from mlx_integrations.cli.menus import read_line, read_yes, show_menu, tell, tell_failure
from mlx_integrations.cli.models.names import short_name
from mlx_integrations.cli.models.pulling import guard, plan_download, show_plan
from mlx_integrations.cli.parts import Invocation
from mlx_integrations.cli.text import disk
from mlx_integrations.cli.wizard.offers import COLUMNS, Kind, Offer, make_offers, preselect, sections_of
from mlx_integrations.errors import ConfigurationError, MLXIntegrationsError, ModelNotFoundError

if TYPE_CHECKING:
    from mlx_integrations.manager import InstalledModel, PullPlan
    from mlx_integrations.memory_estimate import Fit
    from mlx_integrations.registry import Recommendation
    from mlx_integrations.registry.entry import Use

__all__ = ["Answer", "Pick", "choose", "judge_known", "parse_answer", "pick"]

_USES: Final[dict[Kind, tuple["Use", ...]]] = {"chat": ("chat", "code", "reasoning"), "embedding": ("embedding",)}
_QUESTIONS: Final[dict[Kind, str]] = {
    "chat": "Which model answers when none is named?",
    "embedding": "Which model makes vectors when none is named?",
}
_PROMPTS: Final[dict[Kind, str]] = {"chat": "Chat model", "embedding": "Embedding model"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """A model that was chosen.

    Attributes:
        name: What the settings will call it.
        kind: What for.
        plan: What has to be downloaded; `None` if it is here.
    """

    name: str
    kind: Kind
    plan: "PullPlan | None" = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a person typed into a menu.

    Attributes:
        action: Take a model, delete it, leave everything as it is, show the whole menu, or nothing that is understood.
        text: The model; or why it is not understood.
    """

    action: Literal["take", "delete", "skip", "all", "none"]
    text: str = ""


def parse_answer(text: str, names: Sequence[str], default: int | None) -> Answer:
    """What a person means. Pure.

    Args:
        text: What was typed.
        names: The models that have a number, in the order of their numbers.
        default: The number that Enter takes.
    """
    command, _, rest = text.partition(" ")
    if not text:
        return (
            Answer(action="take", text=names[default - 1]) if default else Answer(action="none", text="Type a number.")
        )
    if text.lower() in ("m", "more"):
        return Answer(action="all")
    if text.lower() in ("s", "skip"):
        return Answer(action="skip")
    action: Literal["take", "delete"] = "take"
    if command.lower() in ("d", "delete") and rest:
        action, text = "delete", rest.strip()
    if text.isdecimal():
        if not 1 <= int(text) <= len(names):
            return Answer(action="none", text=f"There is no {text}: numbers go from 1 to {len(names)}.")
        return Answer(action=action, text=names[int(text) - 1])
    if len(text) == 1:
        return Answer(action="none", text=f"`{text}` is no number and no model.")
    return Answer(action=action, text=text)


def judge_known(invocation: Invocation, kind: Kind) -> "list[Recommendation]":
    """The known models of a kind, the best for this machine first."""
    from mlx_integrations.manager.plan import free_disk_bytes
    from mlx_integrations.registry import recommend

    machine = replace(invocation.machine, usable_bytes=invocation.budget_bytes)
    found = [
        one
        for use in _USES[kind]
        for one in recommend(
            invocation.registry,
            machine,
            use=use,
            context_tokens=invocation.settings.models.context_tokens,
            free_disk_bytes=free_disk_bytes(invocation.manager.cache_dir),
        )
    ]
    return list({one.entry.id: one for one in reversed(found)}.values())[::-1]


def choose(invocation: Invocation, kind: Kind, *, chosen: str | None, force: bool) -> Pick | None:
    """Let a person choose, as often as it takes.

    Args:
        invocation: This machine, its models, the settings.
        kind: What for.
        chosen: What somebody set before.
        force: Whether a model may be too large.

    Returns:
        The model; `None` if the setting is to stay as it is.

    Raises:
        LeftError: The person does not want to go on.
    """
    show_all = False
    while True:
        offers = _offers(invocation, kind)
        default = preselect(offers, chosen)
        sections, takable = sections_of(offers, show_all=show_all, keep=default)
        number = takable.index(default) + 1 if default in takable else None
        tell(f"\n{_QUESTIONS[kind]}", style="bold")
        show_menu(sections, COLUMNS, default=number)
        tell(_help(number, is_offline=invocation.settings.offline), style="dim")
        outcome = _ask(invocation, kind, takable, number, force=force)
        if outcome is None or isinstance(outcome, Pick):
            return outcome
        show_all = show_all or outcome == "all"


def pick(invocation: Invocation, kind: Kind, name: str, *, force: bool) -> Pick:
    """Decide for a model by its name; shows what downloading it takes, if it is not here.

    Raises:
        ModelNotFoundError: It is nowhere.
        ConfigurationError: It is not for this use.
        InsufficientMemoryError: It is too large, and that is not to be forced.
        UnsupportedArchitectureError: It cannot be run here.
        HubError: The Hub does not give it.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return Pick(name=str(folder.resolve()), kind=kind)
    try:
        installed = invocation.manager.find(name)
    except ModelNotFoundError:
        installed = None
    if installed is not None and installed.is_complete:
        _check(installed, kind)
        return Pick(name=short_name(installed, invocation.registry), kind=kind)
    plan, guess = plan_download(invocation, name)
    if plan.support.kind not in (kind, None):
        raise _wrong_kind(name, kind)
    show_plan(invocation, plan, guess)
    guard(plan, guess, force=force)
    known = plan.entry.id if plan.entry else name if "@" in name else plan.repo_id
    return Pick(name=known, kind=kind, plan=plan)


def _ask(
    invocation: Invocation, kind: Kind, takable: Sequence[Offer], number: int | None, *, force: bool
) -> Pick | Literal["all", "again"] | None:
    """Ask until something is understood and can be done; or whether the menu has to be shown again."""
    names = [offer.name for offer in takable]
    while True:
        prompt = f"{_PROMPTS[kind]} [{number}]: " if number else f"{_PROMPTS[kind]}: "
        answer = parse_answer(read_line(prompt), names, number)
        if answer.action == "all":
            return "all"
        if answer.action == "skip":
            return None
        try:
            if answer.action == "take":
                return pick(invocation, kind, answer.text, force=force)
            if answer.action == "delete" and _delete(invocation, answer.text):
                return "again"
        except (MLXIntegrationsError, OSError) as error:
            tell_failure(error)
        if answer.action == "none":
            tell(answer.text, style="yellow")


def _offers(invocation: Invocation, kind: Kind) -> list[Offer]:
    return make_offers(
        kind,
        installed=invocation.manager.list(),
        recommended=judge_known(invocation, kind),
        registry=invocation.registry,
        fit=lambda model: _fit(invocation, model),
        offline=invocation.settings.offline,
    )


def _fit(invocation: Invocation, model: "InstalledModel") -> "Fit | None":
    guess = guess_folder(invocation, model.path, kind=model.kind)
    return guess[1] if guess else None


def _help(number: int | None, *, is_offline: bool) -> str:
    enter = f"Enter takes {number}. " if number else ""
    others = "" if is_offline else ", or the name of any model of the Hugging Face Hub"
    offline = "The network is switched off: only models that are here can be taken. " if is_offline else ""
    commands = "s leaves the setting as it is, m shows all, d and a number deletes one, q leaves"
    return f"{offline}{enter}Type a number{others}; {commands}."


def _delete(invocation: Invocation, name: str) -> bool:
    """Delete a model, once the person has seen what that frees; whether it was done."""
    removal = invocation.manager.plan_removal(name)
    tell(f"{removal.name}: {disk(removal.freed_bytes)} in {removal.root}")
    for other in removal.shared_with:
        tell(f"  also used by {other}")
    is_meant = read_yes(f"Delete it and free {disk(removal.freed_bytes)}?", default=False)
    if is_meant:
        invocation.manager.remove(removal)
    return is_meant


def _check(installed: "InstalledModel", kind: Kind) -> None:
    if not installed.is_usable:
        raise ConfigurationError(f"`{installed.name}` cannot be used: {installed.reason}", hint="Choose another model.")
    if installed.kind not in (kind, None):
        raise _wrong_kind(installed.name, kind)


def _wrong_kind(name: str, kind: Kind) -> ConfigurationError:
    is_one = "an embedding model: it makes vectors" if kind == "chat" else "a chat model: it makes no vectors"
    return ConfigurationError(f"`{name}` is {is_one}.", hint="Choose another model.")
