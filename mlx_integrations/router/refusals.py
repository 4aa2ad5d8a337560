"""The error for a request that nobody may be asked, said as precisely as what is known allows."""

from collections.abc import Mapping

from mlx_integrations.errors import ContextOverflowError, PrivacyError, RouterError, UnsupportedContentError
from mlx_integrations.router.candidates import Candidate
from mlx_integrations.router.facts import RequestFacts
from mlx_integrations.router.plan import Plan

__all__ = ["refusal"]


def refusal(facts: RequestFacts, plan: Plan, candidates: Mapping[str, Candidate]) -> Exception:
    """Why a plan has nobody in it."""
    withheld = [item.name for item in plan.considered if item.is_privacy]
    if withheld:
        return PrivacyError(
            "The request must stay on this machine, and nobody here may answer it.",
            because=plan.private_because or facts.private_because,
            candidates=withheld,
        )
    known = [candidate.capabilities for candidate in candidates.values() if candidate.capabilities is not None]
    if len(known) == len(candidates):
        if facts.attachments and not any(item.vision for item in known):
            kind = sorted(facts.attachments)[0]
            return UnsupportedContentError(f"No candidate reads a part of kind `{kind}`.", kind=kind)
        window = max(item.context_window for item in known)
        if facts.prompt_tokens is not None and facts.prompt_tokens >= window:
            return ContextOverflowError(
                f"The prompt has {facts.prompt_tokens:,} tokens; the largest window of a candidate holds {window:,}.",
                prompt_tokens=facts.prompt_tokens,
                limit_tokens=window,
            )
    listed = ", ".join(f"`{item.name}` ({item.reason})" for item in plan.considered)
    return RouterError(
        f"Nobody can be asked: {listed}.",
        attempts=[(item.name, item.reason) for item in plan.considered],
        hint="Change the request or the policy, add a candidate, or try again when those that failed are tried again.",
    )
