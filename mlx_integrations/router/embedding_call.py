"""One call of a routed embedding model: who is asked next, what was answered, and what is said when nobody is left.

Everything that waits is outside: sync and async are two thin loops over `EmbeddingCall.next_turn` and `Turn`.
"""

import re
from collections.abc import Callable, Collection, Generator, Iterable
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

from mlx_integrations.errors import (
    EmbeddingSpaceError,
    InvalidOutputError,
    InvalidRequestError,
    PrivacyError,
    RouterError,
)
from mlx_integrations.router.breaker import Ticket
from mlx_integrations.router.embedding_space import UNSEEN, EmbeddingCandidate, Spaces, use_of
from mlx_integrations.router.embedding_texts import EmbeddingTexts
from mlx_integrations.router.failures import REACTIONS, Failure
from mlx_integrations.router.policy import Policy
from mlx_integrations.router.roster import Roster
from mlx_integrations.types import EmbeddingChunk, EmbeddingOptions

__all__ = ["EmbeddingCall", "EmbeddingRules", "Turn"]

_POSITION = re.compile(r"texts\[(\d+)\]")
_HELD = "the texts must stay on this machine"


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingRules:
    """What all calls of a routed model share. Attributes as the arguments of `RoutedEmbeddingBackend`.

    Attributes:
        needs_check: Whether vectors are compared at all: not where one candidate is all there is.
    """

    candidates: tuple[EmbeddingCandidate, ...]
    spaces: Spaces
    roster: Roster
    policy: Policy
    allow_fallback: bool
    detect: Callable[[str], Collection[str]] | None
    explain_failure: Callable[[Exception], Failure]
    needs_check: bool

    def in_order(self) -> tuple[EmbeddingCandidate, ...]:
        """The candidates, the one first that was chosen for a new store."""
        leader = self.spaces.leader
        if leader is None or self.spaces.record is not None:
            return self.candidates
        return (leader, *(item for item in self.candidates if item is not leader))

    def why_not(self, candidate: EmbeddingCandidate, *, is_private: bool) -> str:
        """Why a candidate may not be asked; empty if it may."""
        if not candidate.is_local:
            if is_private:
                return _HELD
            if not self.policy.allow_cloud or self.policy.mode == "local_only":
                return "texts may not leave this machine"
            if self.policy.is_offline:
                return "the network is switched off"
        elif self.policy.mode == "cloud_only" and not is_private:
            return "only clouds may be asked"
        if candidate.name != self.candidates[0].name and not self.allow_fallback:
            return "a fallback is not allowed"
        return ""

    def asks_another(self, error: Exception) -> bool:
        """Whether an error is the candidate's, and somebody else may do better."""
        return REACTIONS[self.explain_failure(error).kind].asks_another


class EmbeddingCall:
    """The state of one call.

    Args:
        rules: What calls share.
        texts: What is to be embedded.
        options: How; progress is told here and not by candidates, so that nothing is told twice.
        is_private: Whether all texts must stay on this machine.
    """

    def __init__(
        self, rules: EmbeddingRules, texts: Iterable[str], options: EmbeddingOptions, *, is_private: bool
    ) -> None:
        self.rules = rules
        self.options = replace(options, on_progress=None)
        self.use = use_of(options)
        self.texts = EmbeddingTexts(texts, None if rules.detect is None else self._must_stay)
        self.is_complete = False
        self.dimensions: int | None = None
        self._on_progress = options.on_progress
        self._is_private = is_private
        self._because: tuple[str, ...] = ()
        self._out: dict[str, str] = {}
        self._others: dict[str, tuple[str, ...]] = {}
        self._first_error: Exception | None = None

    def next_turn(self) -> "Turn | None":
        """Who is asked next; `None` when every text is answered.

        Raises:
            RouterError: Nobody is left, or one of the errors that say why.
            PrivacyError: Nobody is left who may see the texts.
        """
        if self.is_complete:
            return None
        for candidate in self.rules.in_order():
            if candidate.name in self._out or self.why_not(candidate):
                continue
            ticket = self.rules.roster.enter(candidate.name)
            if ticket is not None:
                return Turn(self, candidate, ticket)
            _, reason = self.rules.roster.breakers[candidate.name].blocked()
            self._out[candidate.name] = f"left alone: {reason or 'another call is trying it'}"
        raise self._refusal() from self._first_error

    def why_not(self, candidate: EmbeddingCandidate) -> str:
        """Why a candidate may not be asked in this call, as things are now; empty if it may."""
        return self.rules.why_not(candidate, is_private=self._is_private)

    def tell(self, chunk: EmbeddingChunk) -> None:
        """Tell the caller how far it is."""
        if self._on_progress is not None:
            self._on_progress(len(chunk.vectors))

    def hold(self) -> None:
        """From here on, nothing leaves this machine."""
        self._is_private = True

    def leave_out(self, candidate: EmbeddingCandidate, reason: str, error: Exception | None = None) -> None:
        """Do not ask a candidate again in this call."""
        self._out[candidate.name] = reason
        self._first_error = self._first_error or error

    def leave_out_of_space(self, candidate: EmbeddingCandidate, different: tuple[str, ...]) -> None:
        """Do not ask a candidate whose vectors are others."""
        self._others[candidate.name] = different
        self._out[candidate.name] = "its vectors are of another space: " + ", ".join(different)

    def _must_stay(self, text: str) -> bool:
        if self._is_private:
            return True
        assert self.rules.detect is not None
        self._because = tuple(self.rules.detect(text))
        return bool(self._because)

    def _refusal(self) -> Exception:
        """What is said when nobody is left."""
        reasons = [(item.name, self._out.get(item.name) or self.why_not(item)) for item in self.rules.candidates]
        withheld = [name for name, reason in reasons if reason.startswith(_HELD)]
        listed = ", ".join(f"`{name}` ({reason})" for name, reason in reasons)
        if withheld:
            at = f" from text {self.texts.answered} on" if self._because else ""
            return PrivacyError(
                f"The texts{at} must stay on this machine, and nobody here can embed them: {listed}.",
                because=self._because,
                candidates=withheld,
            )
        if self._others:
            return self._space_refusal(reasons)
        if len(reasons) == 1 and self._first_error is not None:
            return self._first_error
        return RouterError(f"Nobody can embed: {listed}.", attempts=reasons)

    def _space_refusal(self, reasons: list[tuple[str, str]]) -> EmbeddingSpaceError:
        first = self.rules.spaces.leader or self.rules.candidates[0]
        record = self.rules.spaces.record
        wanted = _described(first, self.use) if record is None else _of_record(record.model, record.dimensions)
        offered = [_described(item, self.use) for item in self.rules.candidates if item.name in self._others]
        fields = self._others[offered[0]["name"]]
        others = "; ".join(f"{_in_words(item)} {_reason(self._others[item['name']])}" for item in offered)
        state = "" if record is not None else f" cannot be asked ({self._out.get(first.name, 'no answer')})"
        unseen = (
            "Ask when the first model works, or give the record of the store, so that there is something to compare "
            "with."
        )
        return EmbeddingSpaceError(
            f"{_in_words(wanted)}{state or ' made the vectors there are'}, and {others}. Nothing was embedded by it.",
            wanted=wanted,
            offered=offered,
            fields=fields,
            attempts=reasons,
            hint=unseen if fields == (UNSEEN,) else None,
        )


class Turn:
    """A candidate's turn in a call. Left by `with`, so that a breaker is told in any case.

    Attributes:
        candidate: Whose turn it is.
        is_admitted: Whether its vectors may be passed on; `None` if that has to be verified.
    """

    def __init__(self, call: EmbeddingCall, candidate: EmbeddingCandidate, ticket: Ticket) -> None:
        self.candidate = candidate
        self.is_admitted: bool | None = None
        self._call = call
        self._ticket = ticket
        self._base = call.texts.answered
        is_known = not call.rules.needs_check or call.rules.spaces.verdict(candidate, call.use) == ()
        if is_known and candidate.locate is None:
            self.is_admitted = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ticket.release()

    def verify(self) -> None:
        """Find out whether it may have the texts, and its vectors be passed on. Asks it, so it may take a while."""
        if self.candidate.locate is not None:
            self.candidate = replace(self.candidate, location=self.candidate.locate(), locate=None)
            if reason := self._call.why_not(self.candidate):
                self.is_admitted = False
                self._call.leave_out(self.candidate, f"{reason}, and it is not on this machine any more")
                return
        if not self._call.rules.needs_check:
            self.is_admitted = True
            return
        try:
            different = self._call.rules.spaces.verify(self.candidate, self._call.use)
        except Exception as error:  # noqa: BLE001 - candidates raise what they like; `failed` knows the caller's own
            self.is_admitted = False
            self.failed(error)
            return
        self.is_admitted = not different
        if different:
            self._call.leave_out_of_space(self.candidate, different)

    def texts(self) -> Generator[str, None, None]:
        """What it is to embed: all that has no vector yet."""
        return self._call.texts.read(is_local=self.candidate.is_local)

    def taken(self, chunk: EmbeddingChunk | None) -> EmbeddingChunk | None:
        """Check and count a piece; `None`, at the end of its stream, ends the turn.

        Raises:
            InvalidOutputError: It is not what was asked for.
        """
        if chunk is None:
            self._ended()
            return None
        texts, dimensions = self._call.texts, self._call.dimensions
        count, width = chunk.vectors.shape
        if self._base + chunk.first != texts.answered or count > texts.unanswered:
            raise InvalidOutputError("Its vectors are not those of the texts that it was given.")
        if dimensions not in (None, width):
            raise InvalidOutputError(f"It made vectors of {width} coordinates among others of {dimensions}.")
        self._call.dimensions = width
        texts.answer(count)
        if not self._base:
            return chunk
        moved = tuple(self._base + position for position in chunk.truncated)
        return replace(chunk, first=self._base + chunk.first, truncated=moved)

    def succeeded(self) -> None:
        """It did what it was asked for."""
        self._ticket.succeed()

    def failed(self, error: Exception) -> None:
        """Leave it out, and go on with the next one.

        Raises:
            Exception: The error itself, where it is the caller's own and nobody else could do better.
        """
        if (own := self._call.texts.error) is not None:
            raise own
        rules = self._call.rules
        failure = rules.explain_failure(error)
        reaction = REACTIONS[failure.kind]
        if not reaction.asks_another:
            raise _shifted(error, self._base)
        rules.roster.failed(self.candidate.name, self._ticket, failure, reaction)
        rules.spaces.forget(self.candidate)
        self._call.leave_out(self.candidate, f"{reaction.description} ({type(error).__name__})", error)

    def _ended(self) -> None:
        texts = self._call.texts
        if texts.is_held:
            self._call.hold()
        elif texts.unanswered:
            raise InvalidOutputError("It ended before every text had a vector.")
        else:
            self._call.is_complete = True
        self._ticket.succeed()


def _shifted(error: Exception, base: int) -> Exception:
    """An error that counts texts from where a candidate's turn began, counted from the beginning of the call."""
    found = _POSITION.fullmatch(error.field) if base and isinstance(error, InvalidRequestError) else None
    if found is None:
        return error
    assert isinstance(error, InvalidRequestError)
    field = f"texts[{base + int(found[1])}]"
    return InvalidRequestError(error.message.replace(error.field, field), field=field, hint=error.hint)


def _described(candidate: EmbeddingCandidate, use: EmbeddingOptions) -> dict[str, Any]:
    """A candidate's name, model and dimensions, as far as it can say."""
    described: dict[str, Any] = {"name": candidate.name, "model": candidate.backend.model_id, "dimensions": None}
    try:
        described["dimensions"] = candidate.backend.identity(use).dimensions
    except Exception:  # noqa: BLE001 - it has failed already, and is reported for that
        return described
    return described


def _of_record(model: str, dimensions: int) -> dict[str, Any]:
    return {"name": model, "model": model, "dimensions": dimensions}


def _in_words(described: dict[str, Any]) -> str:
    name, model, width = described["name"], described["model"], described["dimensions"]
    size = "dimensions unknown" if width is None else f"{width} dimensions"
    return f"`{name}` ({size})" if name == model else f"`{name}` (`{model}`, {size})"


def _reason(different: tuple[str, ...]) -> str:
    if different == (UNSEEN,):
        return "cannot be compared with it: nothing is known of its vectors yet"
    if "witness" in different:
        return "makes other vectors of the same texts"
    return "makes other vectors: " + " and ".join(f"`{name}`" for name in different) + " differ"
