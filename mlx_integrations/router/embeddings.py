"""`RoutedEmbeddingBackend`: several embedding models that answer as one, as long as their vectors are the same.

    one call of `stream` or `astream`
        -> EmbeddingTexts           read once; texts without a vector are kept until somebody has made it
        -> EmbeddingCall.next_turn  who is next: allowed, not left alone, not failed in this call
        -> Spaces.verify            before the first vector: may its vectors be mixed with those there are?
        -> the candidate's stream   pieces are passed on as they come; what it did not answer goes to the next one

Nobody is asked twice in one call, and no text is embedded twice for it.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Sequence
from contextlib import aclosing, closing
from dataclasses import replace
from typing import TypeVar

from mlx_integrations.errors import InvalidRequestError, PrivacyError
from mlx_integrations.fingerprint import EmbeddingFingerprint
from mlx_integrations.protocols import EmbeddingBackend
from mlx_integrations.router.candidates import Candidate, Location
from mlx_integrations.router.detectors import make_detectors
from mlx_integrations.router.embedding_call import EmbeddingCall, EmbeddingRules, Turn
from mlx_integrations.router.embedding_space import MIN_COSINE, EmbeddingCandidate, Spaces, use_of
from mlx_integrations.router.failures import Failure, classify
from mlx_integrations.router.policy import Policy
from mlx_integrations.router.roster import Roster
from mlx_integrations.types import EmbeddingCapabilities, EmbeddingChunk, EmbeddingOptions

__all__ = ["RoutedEmbeddingBackend"]

_DEFAULTS = EmbeddingOptions()
_DEFAULT_POLICY = Policy()
_T = TypeVar("_T")


class RoutedEmbeddingBackend:
    """An `EmbeddingBackend` over others.

    The first candidate goes first. When it fails, the next one is asked whose vectors can be compared with those of the
    first; that is verified before any of them is passed on, and remembered. Where nobody is left, the error names both
    models and their dimensions. With a single candidate and no record there is nothing to verify, and nothing is.

    Args:
        candidates: In order.
        policy: Whether texts may leave this machine (`allow_cloud`, `mode`, `is_offline`), and what is looked for in
            those that may not. The order is that of `candidates`.
        allow_fallback: Whether anybody but the first candidate may answer.
        is_private: Whether all texts must stay on this machine.
        record: The fingerprint of a store's vectors. Only candidates of its space answer, whoever goes first.
        for_new_store: The store is yet to be filled: the first candidate who can embed sets the space, for as long as
            this object lives.
        min_cosine: How near vectors of candidates that are declared equal have to be; in (0, 1].
        explain_failure: Says which failure an error is; for candidates that raise errors of their own.
        window_seconds: How long a candidate that keeps failing is left alone.
        clock: Seconds that only go up.

    Raises:
        InvalidRequestError: No candidate, two of one name, the first one may never be asked, or arguments that
            contradict one another.
    """

    def __init__(
        self,
        candidates: Sequence[EmbeddingCandidate],
        *,
        policy: Policy = _DEFAULT_POLICY,
        allow_fallback: bool = True,
        is_private: bool = False,
        record: EmbeddingFingerprint | None = None,
        for_new_store: bool = False,
        min_cosine: float = MIN_COSINE,
        explain_failure: Callable[[Exception], Failure] = classify,
        window_seconds: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        roster = Roster(
            [Candidate(name=item.name, location=item.location) for item in candidates],
            window_seconds=window_seconds,
            clock=clock,
        )
        self._candidates = tuple(candidates)
        self._is_private = is_private
        self._spaces = Spaces(candidates, record=record, for_new_store=for_new_store, min_cosine=min_cosine)
        self._rules = EmbeddingRules(
            candidates=self._candidates,
            spaces=self._spaces,
            roster=roster,
            policy=policy,
            allow_fallback=allow_fallback,
            detect=_detector(policy),
            explain_failure=explain_failure,
            needs_check=len(candidates) > 1 or record is not None,
        )
        self._check(for_new_store=for_new_store, min_cosine=min_cosine)

    @property
    def model_id(self) -> str:
        """The name of the model whose vectors these are; of the first one while that is not decided."""
        return self._leader.backend.model_id

    @property
    def chosen(self) -> str | None:
        """The candidate whose vectors the others are held to; `None` while nobody has set the space."""
        leader = self._spaces.leader
        return None if leader is None else leader.name

    @property
    def location(self) -> Location:
        """Where texts may go: the farthest place of all candidates who may be asked."""
        allowed = [
            item.location for item in self._candidates if not self._rules.why_not(item, is_private=self._is_private)
        ]
        return "remote" if "remote" in allowed else next((item for item in allowed if item != "in-process"), allowed[0])

    @property
    def capabilities(self) -> EmbeddingCapabilities:
        """Those of the model whose vectors these are; of another candidate while it is not there."""
        return self._first_that(lambda backend: backend.capabilities)

    def stream(
        self, texts: Iterable[str], options: EmbeddingOptions = _DEFAULTS
    ) -> Generator[EmbeddingChunk, None, None]:
        """Vectors in pieces, in the order of the texts, all of one space.

        Raises:
            EmbeddingSpaceError: Whoever is left makes other vectors; the cause is the first candidate's error.
            RouterError: Everybody who may be asked has failed; the cause is the first candidate's error.
            PrivacyError: A text must stay on this machine, and nobody here can embed it.
        """
        call = self._call(texts, options)
        while (turn := call.next_turn()) is not None:
            with turn:
                if turn.is_admitted is None:
                    turn.verify()
                if not turn.is_admitted:
                    continue
                with closing(turn.candidate.backend.stream(turn.texts(), call.options)) as chunks:
                    while (chunk := _step(turn, chunks)) is not None:
                        call.tell(chunk)
                        yield chunk

    async def astream(
        self, texts: Iterable[str], options: EmbeddingOptions = _DEFAULTS
    ) -> AsyncGenerator[EmbeddingChunk, None]:
        """The same for event loops; what has to be verified first is verified in a thread."""
        call = self._call(texts, options)
        while (turn := call.next_turn()) is not None:
            with turn:
                if turn.is_admitted is None:
                    await asyncio.to_thread(turn.verify)
                if not turn.is_admitted:
                    continue
                async with aclosing(turn.candidate.backend.astream(turn.texts(), call.options)) as chunks:
                    while (chunk := await _astep(turn, chunks)) is not None:
                        call.tell(chunk)
                        yield chunk

    def count_tokens(self, texts: Iterable[str], options: EmbeddingOptions = _DEFAULTS) -> list[int]:
        """Tokens of each text before it is cut, as the model counts whose vectors these are."""
        kept = texts if isinstance(texts, str) else list(texts)
        detect = self._rules.detect
        is_private = detect is not None and any(detect(text) for text in kept if isinstance(text, str))
        return self._first_that(lambda backend: backend.count_tokens(kept, options), is_private=is_private)

    def identity(self, options: EmbeddingOptions = _DEFAULTS) -> EmbeddingFingerprint:
        """The fingerprint without its witness; loads weights only while it is not decided whose vectors these are."""
        if self._spaces.leader is None or self._spaces.record is not None:
            return replace(self.fingerprint(options), witness=())
        known = self._spaces.reference(_documents(options))
        return self._leader.backend.identity(options) if known is None else known.identity

    def fingerprint(self, options: EmbeddingOptions = _DEFAULTS) -> EmbeddingFingerprint:
        """Whose vectors these are: of the first candidate, of the record, or of who was chosen for a new store.

        Raises:
            RouterError: Nobody can be asked; the errors of `stream`.
        """
        use = _documents(options)
        if not self._rules.needs_check:
            return self._leader.backend.fingerprint(options)
        if self._spaces.record is None and (known := self._spaces.reference(use)) is not None:
            return known.fingerprint
        answering = self._settled(use)
        if self._spaces.record is not None:
            return self._spaces.record
        known = self._spaces.reference(use)
        return answering.backend.fingerprint(options) if known is None else known.fingerprint

    @property
    def _leader(self) -> EmbeddingCandidate:
        return self._spaces.leader or self._candidates[0]

    def _call(self, texts: Iterable[str], options: EmbeddingOptions) -> EmbeddingCall:
        return EmbeddingCall(self._rules, texts, options, is_private=self._is_private)

    def _settled(self, use: EmbeddingOptions) -> EmbeddingCandidate:
        """The first candidate who may answer, and can."""
        call = self._call((), use)
        while (turn := call.next_turn()) is not None:
            with turn:
                turn.verify()
                if turn.is_admitted:
                    turn.succeeded()
                    return turn.candidate
        raise AssertionError("a call ends with a candidate or an error")

    def _first_that(self, ask: Callable[[EmbeddingBackend], _T], *, is_private: bool = False) -> _T:
        """What the first candidate says who can; the first one's error if nobody can."""
        first: Exception | None = None
        for candidate in self._rules.in_order():
            if self._rules.why_not(candidate, is_private=is_private or self._is_private):
                continue
            try:
                return ask(candidate.backend)
            except Exception as error:
                if not self._rules.asks_another(error):
                    raise
                first = first or error
        raise first or PrivacyError("The texts must stay on this machine, and nobody here can read them.")

    def _check(self, *, for_new_store: bool, min_cosine: float) -> None:
        if not 0 < min_cosine <= 1:
            raise InvalidRequestError(f"`min_cosine` cannot be {min_cosine}: it is in (0, 1].", field="min_cosine")
        if for_new_store and self._spaces.record is not None:
            raise InvalidRequestError(
                "A store that has a record is not new.",
                field="for_new_store",
                hint="Give the record of an existing store, or `for_new_store=True`, not both.",
            )
        asked = [self._rules.why_not(item, is_private=self._is_private) for item in self._candidates]
        decides = self._candidates[:1] if self._spaces.leader is not None else self._candidates
        if all(asked[: len(decides)]):
            raise InvalidRequestError(
                f"`{decides[0].name}` can never be asked: {asked[0]}.",
                field="candidates",
                hint="Put a model on this machine first, or allow texts to leave it.",
            )


def _detector(policy: Policy) -> Callable[[str], tuple[str, ...]] | None:
    """Says what kinds of things in a text keep it on this machine."""
    detectors = make_detectors(policy.detectors, policy.private_words, policy.private_patterns)
    if not detectors:
        return None
    return lambda text: tuple(kind for kind, is_in in detectors.items() if is_in(text))


def _documents(options: EmbeddingOptions) -> EmbeddingOptions:
    return replace(use_of(options), side="document")


def _step(turn: Turn, chunks: Generator[EmbeddingChunk, None, None]) -> EmbeddingChunk | None:
    try:
        return turn.taken(next(chunks, None))
    except Exception as error:  # noqa: BLE001 - candidates raise what they like; `failed` knows the caller's own
        turn.failed(error)
        return None


async def _astep(turn: Turn, chunks: AsyncGenerator[EmbeddingChunk, None]) -> EmbeddingChunk | None:
    try:
        return turn.taken(await anext(chunks, None))
    except Exception as error:  # noqa: BLE001 - as above
        turn.failed(error)
        return None
