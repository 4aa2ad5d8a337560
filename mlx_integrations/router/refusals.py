"""The error for a request that nobody may be asked, said as precisely as what is known allows."""

from collections.abc import Callable, Mapping

from mlx_integrations.errors import ContextOverflowError, PrivacyError, RouterError, UnsupportedContentError
from mlx_integrations.router.candidates import Candidate
from mlx_integrations.router.facts import RequestFacts
from mlx_integrations.router.plan import Plan
from mlx_integrations.types import ModelCapabilities

__all__ = ["refusal"]


def refusal(
    facts: RequestFacts,
    plan: Plan,
    candidates: Mapping[str, Candidate],
    count: Callable[[str], int | None] | None = None,
) -> Exception:
    """Why a plan has nobody in it.

    Args:
        facts: What is known of the request.
        plan: The plan.
        candidates: By name.
        count: Counts the prompt by a candidate's tokenizer.
    """
    withheld = [item.name for item in plan.considered if item.is_privacy]
    if withheld:
        return PrivacyError(
            "The request must stay on this machine, and nobody here may answer it.",
            because=plan.private_because or facts.private_because,
            candidates=withheld,
        )
    known = {name: item.capabilities for name, item in candidates.items() if item.capabilities is not None}
    if len(known) == len(candidates):
        if facts.attachments and not any(item.vision for item in known.values()):
            kind = sorted(facts.attachments)[0]
            return UnsupportedContentError(f"No candidate reads a part of kind `{kind}`.", kind=kind)
        if (error := _overflow(facts, known, count)) is not None:
            return error
    listed = ", ".join(f"`{item.name}` ({item.reason})" for item in plan.considered)
    return RouterError(
        f"Nobody can be asked: {listed}.",
        attempts=[(item.name, item.reason) for item in plan.considered],
        hint="Change the request or the policy, add a candidate, or try again when those that failed are tried again.",
    )


def _overflow(
    facts: RequestFacts, known: Mapping[str, ModelCapabilities], count: Callable[[str], int | None] | None
) -> ContextOverflowError | None:
    """The error if even the largest window is too small."""
    name = max(known, key=lambda name: known[name].context_window)
    room = known[name].context_window - (facts.output_tokens or 1)
    tokens = facts.prompt_tokens
    if tokens is None and facts.text_bytes > room and count is not None:
        tokens = count(name)
    if tokens is None or tokens <= room:
        return None
    return ContextOverflowError(
        f"The prompt has {tokens:,} tokens; `{name}`, whose window is the largest, has room for {room:,}.",
        prompt_tokens=tokens,
        limit_tokens=room,
    )
