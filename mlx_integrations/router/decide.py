"""Who is asked, in which order, and why: a pure function of what is known.

First everything that rules a candidate out, privacy before all else. What is left is ordered by, one after the other:
the user's preference for the task, the side that the mode prefers, the user's order, the task, the language, whether
the model is in memory, how fast it was lately, what it costs, the scorer, and the place in the list. Candidates of one
group are equals: the least busy of them goes first.
"""

import math
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any, Final, Literal

from mlx_integrations.router.candidates import Candidate, CandidateState
from mlx_integrations.router.facts import RequestFacts
from mlx_integrations.router.plan import Consideration, Plan
from mlx_integrations.router.policy import Policy
from mlx_integrations.types import ModelCapabilities

__all__ = ["decide", "estimate_usd", "uncertain"]

_USUAL: Final = CandidateState()
_TYPICAL_ANSWER_TOKENS: Final = 256
_BYTES_OF_A_TOKEN: Final = 4
"""On average, for prices: https://platform.openai.com/tokenizer says that of English text."""
_MOST_BYTES_OF_A_TOKEN: Final = 8
"""Text of which a token covers more than this on average is not written by people."""
_PLACES: Final = {
    "in-process": "in this process",
    "loopback": "on this machine",
    "listed": "at an address you listed",
    "remote": "in the cloud",
}
_REST: Final = itemgetter(0, 2, 3)
_Fit = Literal["fits", "too long", "unknown"]


def decide(
    facts: RequestFacts,
    candidates: Sequence[Candidate],
    states: Mapping[str, CandidateState],
    policy: Policy,
    *,
    spent_usd: float = 0.0,
) -> Plan:
    """Decide who is asked.

    Args:
        facts: What is known of the request.
        candidates: Everybody who could answer, in the user's order; names are unique.
        states: How they are doing; who is not in it is doing well.
        policy: What the user wants.
        spent_usd: What was spent so far in this process.

    Returns:
        A plan with one consideration for each candidate. Its reasons tell what kind of thing was found in the request,
        and nothing of the request itself.
    """
    skipped: list[Consideration] = []
    taken: list[tuple[tuple[Any, ...], Candidate, CandidateState]] = []
    must_stay = _must_stay(facts, policy)
    for place, candidate in enumerate(candidates):
        state = states.get(candidate.name, _USUAL)
        if must_stay and candidate.location == "remote":
            skipped.append(Consideration(name=candidate.name, is_taken=False, reason=must_stay, is_privacy=True))
        elif reason := _why_not(facts, candidate, state, policy, spent_usd):
            skipped.append(Consideration(name=candidate.name, is_taken=False, reason=reason))
        else:
            taken.append((_rank(facts, candidate, state, policy, place), candidate, state))
    if len(taken) > 1:
        taken = _in_order(taken)
    considered = [
        Consideration(name=candidate.name, is_taken=True, reason=_why(facts, candidate, state, policy))
        for _, candidate, state in taken
    ]
    return Plan(
        order=tuple([item.name for item in considered]),
        considered=(*considered, *skipped),
        private_because=facts.private_because,
    )


def uncertain(facts: RequestFacts, candidates: Sequence[Candidate]) -> tuple[str, ...]:
    """Candidates of which only their tokenizer can tell whether the prompt fits: put what it says into their states."""
    return tuple(
        candidate.name
        for candidate in candidates
        if candidate.capabilities is not None
        and facts.prompt_tokens is None
        and _fit(facts, candidate.capabilities, None) == "unknown"
    )


def estimate_usd(facts: RequestFacts, candidate: Candidate) -> float | None:
    """What an answer would cost, roughly; `None` where a price is not known."""
    if candidate.input_price is None or candidate.output_price is None:
        return 0.0 if candidate.is_local else None
    prompt = facts.text_bytes / _BYTES_OF_A_TOKEN if facts.prompt_tokens is None else facts.prompt_tokens
    answer = facts.output_tokens or _TYPICAL_ANSWER_TOKENS
    return (prompt * candidate.input_price + answer * candidate.output_price) / 1e6


def _must_stay(facts: RequestFacts, policy: Policy) -> str:
    """Why the request must not leave this machine; empty if it may."""
    if facts.private_because:
        return f"the request must stay on this machine: {', '.join(facts.private_because)}"
    if policy.mode == "local_only":
        return "the mode is `local_only`"
    return "" if policy.allow_cloud else "the cloud is not allowed"


def _why_not(facts: RequestFacts, candidate: Candidate, state: CandidateState, policy: Policy, spent_usd: float) -> str:
    """What else rules a candidate out; empty if nothing does."""
    is_remote = candidate.location == "remote"
    if policy.mode == "cloud_only" and not is_remote:
        return "the mode is `cloud_only`"
    if is_remote and policy.is_offline:
        return "the network is switched off"
    if not state.is_present:
        return "its model is not on this machine" if candidate.base_url is None else "its endpoint does not offer it"
    if state.blocked_seconds > 0:
        return _blocked(state)
    if candidate.capabilities is not None and (reason := _cannot(facts, candidate.capabilities, state)):
        return reason
    if facts.attachments and (reason := _cannot_read(facts, candidate)):
        return reason
    if state.fits_memory is False:
        return "its model does not fit into memory"
    if candidate.max_concurrent is not None and state.in_flight >= candidate.max_concurrent:
        return f"it is answering {state.in_flight} calls, as many as it takes"
    if is_remote and policy.budget_usd is not None:
        return _too_dear(facts, candidate, policy.budget_usd - spent_usd)
    return ""


def _blocked(state: CandidateState) -> str:
    until = "until that changes" if math.isinf(state.blocked_seconds) else f"for {state.blocked_seconds:.0f} s"
    return f"left alone {until}: {state.blocked_because or 'it failed'}"


def _cannot(facts: RequestFacts, capabilities: ModelCapabilities, state: CandidateState) -> str:
    if facts.needs_tools and not capabilities.tools:
        return "it cannot call tools"
    if facts.needs_structured_output and not capabilities.structured_output:
        return "it cannot be held to a schema"
    if facts.output_tokens and capabilities.max_output_tokens and facts.output_tokens > capabilities.max_output_tokens:
        return f"it writes {capabilities.max_output_tokens:,} tokens at most"
    if _fit(facts, capabilities, state.prompt_tokens) == "too long":
        return f"the request is longer than its window of {capabilities.context_window:,} tokens"
    return ""


def _cannot_read(facts: RequestFacts, candidate: Candidate) -> str:
    """Whether it is known that a candidate does not read what is attached."""
    capabilities = candidate.capabilities
    for kind in sorted(facts.attachments):
        # What a model reads besides text and images, its capabilities do not say. Those in this process read no more.
        is_unable = capabilities is not None and not capabilities.vision if kind == "image" else False
        if is_unable or (kind != "image" and candidate.location == "in-process"):
            return f"it reads no {kind}{'' if kind in ('audio', 'video') else 's'}"
    return ""


def _fit(facts: RequestFacts, capabilities: ModelCapabilities, counted: int | None) -> _Fit:
    """Whether prompt and answer fit into a window, as far as bytes tell: a token is at least one of them."""
    room = capabilities.context_window - (facts.output_tokens or 1)
    tokens = facts.prompt_tokens if counted is None else counted
    if tokens is not None:
        return "fits" if tokens <= room else "too long"
    if facts.text_bytes <= room:
        return "fits"
    return "too long" if facts.text_bytes > room * _MOST_BYTES_OF_A_TOKEN else "unknown"


def _too_dear(facts: RequestFacts, candidate: Candidate, left_usd: float) -> str:
    cost = estimate_usd(facts, candidate)
    if cost is None:
        return "there is a budget, and its price is not known"
    if cost and left_usd <= 0:
        return "the budget is spent"
    return "it costs more than what is left of the budget" if cost > left_usd and cost else ""


def _rank(
    facts: RequestFacts, candidate: Candidate, state: CandidateState, policy: Policy, place: int
) -> tuple[Any, ...]:
    """What orders candidates: (what is wanted, calls in flight, how well it does, place); smaller goes first."""
    name, order = candidate.name, policy.order
    preferred = policy.tasks.get(facts.task, ()) if facts.task is not None else ()
    wanted = (
        name != policy.first,
        preferred.index(name) if name in preferred else len(preferred),
        (candidate.location == "remote") == (policy.mode == "prefer_local"),
        order.index(name) if name in order else len(order),
        facts.task is not None and facts.task not in candidate.tasks,
        facts.language is not None and candidate.languages is not None and facts.language not in candidate.languages,
    )
    # What is one's own costs nothing as long as nobody says otherwise.
    cost = 0.0 if candidate.input_price is None and candidate.is_local else estimate_usd(facts, candidate)
    score = 0.0 if policy.scorer is None else policy.scorer(facts, name)
    does = (
        not state.is_loaded,
        _slowness(state),
        math.inf if cost is None else cost,
        0.0 if math.isnan(score) else -score,
    )
    return wanted, state.in_flight, does, place


def _slowness(state: CandidateState) -> float:
    """Seconds of a usual answer to the nearest power of two, so that only a clear difference counts."""
    if state.tokens_per_second is None or state.tokens_per_second <= 0:
        return math.inf
    seconds = (state.first_token_seconds or 0.0) + _TYPICAL_ANSWER_TOKENS / state.tokens_per_second
    return round(math.log2(seconds)) if 0 < seconds < math.inf else seconds


def _in_order(
    taken: list[tuple[tuple[Any, ...], Candidate, CandidateState]],
) -> list[tuple[tuple[Any, ...], Candidate, CandidateState]]:
    """Sort; of a group, each place goes to whoever is least busy."""
    best: dict[tuple[Any, str], tuple[Any, ...]] = {}
    for rank, candidate, _ in taken:
        if candidate.group is not None:
            key, alone = (rank[0], candidate.group), _REST(rank)
            best[key] = min(best.get(key, alone), alone)
    if not best:
        return sorted(taken, key=lambda item: _REST(item[0]))

    def sort_key(item: tuple[tuple[Any, ...], Candidate, CandidateState]) -> tuple[Any, ...]:
        rank, candidate, _ = item
        alone = _REST(rank)
        # Where its group stands, then its place within it; who has no group is one alone.
        return (alone if candidate.group is None else best[rank[0], candidate.group]), rank[1], alone

    return sorted(taken, key=sort_key)


def _why(facts: RequestFacts, candidate: Candidate, state: CandidateState, policy: Policy) -> str:
    """Why a candidate may be asked, and what speaks for it."""
    words = [_PLACES[candidate.location]]
    if facts.task is not None:
        if candidate.name in policy.tasks.get(facts.task, ()):
            words.append(f"you prefer it for `{facts.task}`")
        elif facts.task in candidate.tasks:
            words.append(f"good at `{facts.task}`")
    if state.is_loaded is not None:
        words.append("in memory" if state.is_loaded else "has to be loaded first")
    if state.tokens_per_second is not None:
        words.append(f"{state.tokens_per_second:.0f} tokens/s lately")
    if candidate.capabilities is None:
        words.append("what it can do is not known")
    elif (
        facts.text_bytes >= candidate.capabilities.context_window - (facts.output_tokens or 1)
        and _fit(facts, candidate.capabilities, state.prompt_tokens) == "unknown"
    ):
        words.append("the request may be too long for it")
    return ", ".join(words)
