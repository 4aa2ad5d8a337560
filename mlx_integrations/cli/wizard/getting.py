"""Getting what was chosen: the downloads, and then the proof that it works."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from mlx_integrations.cli.menus import read_yes, tell
from mlx_integrations.cli.models.pulling import download
from mlx_integrations.cli.parts import Invocation
from mlx_integrations.cli.text import disk
from mlx_integrations.cli.trial import Trial, TrialError, trial_command
from mlx_integrations.cli.wizard.choosing import Pick
from mlx_integrations.errors import GenerationError, InsufficientDiskError

__all__ = ["get", "try_out"]

_SMOKE: Final = "mlx_integrations.cli.wizard.smoke"
_LIMIT_SECONDS: Final = 900.0  # a large model on a slow disk; whoever has waited long enough presses Ctrl-C
_DOES_NOTHING: Final = "Check its files: mlxi models verify NAME. If they are right, choose another model."
_CRASHED: Final = "Most likely it takes more memory than there is: close other programs, or choose a smaller model."


def get(invocation: Invocation, picks: Sequence[Pick], *, is_asked: bool, force: bool) -> bool:
    """Download what is missing, one model after the other, each behind one bar.

    Args:
        invocation: Downloads.
        picks: The models.
        is_asked: Whether the person has to agree first.
        force: Whether a model that cannot be run here is downloaded all the same.

    Returns:
        Whether everything is here now; `False` if the person did not agree.

    Raises:
        LeftError: The person does not want to go on.
        HubError: A download failed; what arrived is kept.
        InsufficientDiskError: Together they do not fit on the disk.
    """
    # Planned anew: since the choice the disk may have filled, and an earlier attempt may have brought something.
    plans = [invocation.manager.plan(pick.name) for pick in picks if pick.plan is not None]
    missing = sum(plan.missing_bytes for plan in plans)
    if not plans:
        return True
    free = min(plan.free_disk_bytes for plan in plans)
    if missing > free:
        raise InsufficientDiskError(
            f"The downloads need {disk(missing)}; {disk(free)} are free.",
            needed_bytes=missing,
            free_bytes=free,
            hint="Choose a smaller model, or make room: mlxi models list --sort size shows what takes most.",
        )
    tell()
    if missing and is_asked and not read_yes(f"Download {disk(missing)}? Ctrl-C stops it, and keeps what arrived."):
        return False
    for plan in plans:
        if plan.missing_bytes:
            tell(f"Downloading {plan.repo_id}", style="bold")
        download(invocation, plan, force=force)
    return True


def try_out(invocation: Invocation, pick: Pick) -> None:
    """Let a model do what it is for, a little: twenty tokens, or one vector.

    Raises:
        GenerationError: It cannot.
    """
    asked = "twenty tokens" if pick.kind == "chat" else "one vector"
    tell(f"\nTrying {pick.name}: {asked}", style="bold")
    options = {"kind": pick.kind, "model": pick.name, "overrides": invocation.overrides}
    try:
        with Trial(trial_command(_SMOKE, options), limit_seconds=_LIMIT_SECONDS) as trial:
            told = trial.step("smoke")
    except TrialError as error:
        hint = _CRASHED if error.has_crashed else error.hint or _DOES_NOTHING.replace("NAME", pick.name)
        raise GenerationError(f"`{pick.name}` does not run here: {error}", hint=hint) from error
    problem = _problem(pick, told)
    if problem:
        raise GenerationError(f"`{pick.name}` {problem}.", hint=_DOES_NOTHING.replace("NAME", pick.name))
    _tell(pick, told)


def _problem(pick: Pick, told: Mapping[str, Any]) -> str:
    """What is wrong with an answer or a vector; empty if nothing is."""
    if pick.kind == "chat":
        return "" if told["tokens"] else "answers nothing"
    return "" if told["is_usable"] else "makes a vector of no use"


def _tell(pick: Pick, told: Mapping[str, Any]) -> None:
    if pick.kind == "chat":
        tell("".join(character if character.isprintable() else " " for character in told["text"]).strip())
        speed = f", {told['tokens_per_second']:.0f} a second" if told["tokens_per_second"] else ""
        result = f"{told['tokens']} tokens{speed}"
    else:
        result = f"A vector of {told['dimensions']} dimensions"
    tell(f"{result}; {told['seconds']:.1f} s with loading.", style="green")
