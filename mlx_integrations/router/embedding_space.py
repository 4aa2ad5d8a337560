"""Whether the vectors of two embedding models may be mixed: told by what they make of fixed texts, not by their names.

Two models are of one space if their fingerprints can be compared and a witness, or the digest of their files, agrees.
Where the user declares two models equal, fingerprints may differ in what they say, and the vectors of the fixed texts
have to point the same way: their cosine may not be below a bound, and their lengths have to agree.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from mlx_integrations.fingerprint import WITNESS_COORDINATES, WITNESS_TEXTS, EmbeddingFingerprint
from mlx_integrations.protocols import EmbeddingBackend
from mlx_integrations.router.candidates import Location
from mlx_integrations.types import EmbeddingOptions, EmbeddingResult

if TYPE_CHECKING:  # a type only: importing this module stays fast
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["MIN_COSINE", "UNSEEN", "EmbeddingCandidate", "Evidence", "Spaces", "use_of"]

MIN_COSINE: Final = 0.99
"""How far vectors of models that are declared equal may turn from one another. MiniLM on the fixed texts, beside itself
in float32: 1.0000 with weights in half precision, 0.9999 in 8 bits, 0.960 in 4 bits."""
UNSEEN: Final = "unseen"
"""In place of a field that differs: there is nothing to compare with."""

_LENGTH_TOLERANCE = 0.02  # of a vector's length: one of length 1 beside one that is not scaled is far outside


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingCandidate:
    """One who may embed.

    Attributes:
        name: What errors and reports call it.
        backend: Who it is.
        location: Where it computes, as found out.
        is_declared_equal: The user says that its vectors are those of the first candidate, whatever fingerprints say.
        locate: Finds out once more where it computes, before each of its turns; `None` where that cannot change.
    """

    name: str
    backend: EmbeddingBackend
    location: Location
    is_declared_equal: bool = False
    locate: Callable[[], Location] | None = None

    @property
    def is_local(self) -> bool:
        """Whether texts stay with the user."""
        return self.location != "remote"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evidence:
    """What a model made of the fixed texts, in one use.

    Attributes:
        identity: Its fingerprint, without a witness.
        vectors: (texts, dimensions) float32.
    """

    identity: EmbeddingFingerprint
    vectors: "NDArray[np.float32]"

    @classmethod
    def of(cls, backend: EmbeddingBackend, use: EmbeddingOptions) -> "Evidence":
        """Ask a model now, whatever it said before: behind an address, another model may have taken its place."""
        vectors = EmbeddingResult.join(backend.stream(WITNESS_TEXTS, use)).vectors
        return cls(identity=replace(backend.identity(use), witness=()), vectors=vectors)

    @property
    def fingerprint(self) -> EmbeddingFingerprint:
        """The fingerprint with the witness, and the dimensions that vectors really have."""
        witness = EmbeddingFingerprint.witness_of(self.vectors.tolist())
        return replace(self.identity, dimensions=self.vectors.shape[1], witness=witness)


def use_of(options: EmbeddingOptions) -> EmbeddingOptions:
    """What of the options decides which vectors come out."""
    return replace(options, batch_tokens=None, on_progress=None)


class Spaces:
    """Remembers whose vectors others are held to, and who was found to make the same ones.

    The space is that of the first candidate; or of a record, such as lies beside a store; or, for a store that is yet
    to be filled, of the first candidate who shows that it can embed. Safe from any thread: comparing twice at the same
    time comes to the same, and a space is set only once.

    Args:
        candidates: In order.
        record: The fingerprint of a store's vectors.
        for_new_store: Whether any candidate may set the space.
        min_cosine: For candidates that are declared equal.
    """

    def __init__(
        self,
        candidates: Sequence[EmbeddingCandidate],
        *,
        record: EmbeddingFingerprint | None = None,
        for_new_store: bool = False,
        min_cosine: float = MIN_COSINE,
    ) -> None:
        self.record = record
        self._first = candidates[0]
        is_open = len(candidates) > 1 and (for_new_store or record is not None)
        self._leader = None if is_open else candidates[0]
        self._min_cosine = min_cosine
        self._references: dict[EmbeddingOptions, Evidence] = {}
        self._verdicts: dict[tuple[str, EmbeddingOptions], tuple[str, ...]] = {}
        self._lock = threading.Lock()

    @property
    def leader(self) -> EmbeddingCandidate | None:
        """The candidate whose vectors the others are held to; `None` while nobody has set the space."""
        return self._leader

    def reference(self, use: EmbeddingOptions) -> Evidence | None:
        """What vectors are held to in one use, if that was seen in this process."""
        return self._references.get(use)

    def verdict(self, candidate: EmbeddingCandidate, use: EmbeddingOptions) -> tuple[str, ...] | None:
        """What `verify` found, if it need not look."""
        return self._verdicts.get((candidate.name, use))

    def forget(self, candidate: EmbeddingCandidate) -> None:
        """Look again before its next vector: it failed, and who comes back may be somebody else."""
        with self._lock:
            self._verdicts = {key: found for key, found in self._verdicts.items() if key[0] != candidate.name}

    def verify(self, candidate: EmbeddingCandidate, use: EmbeddingOptions) -> tuple[str, ...]:
        """Names of what keeps a candidate's vectors out of the space; empty if it may answer.

        Raises:
            Exception: Whatever the candidate raises when it is asked to embed the fixed texts.
        """
        known = self.verdict(candidate, use)
        if known is not None:
            return known
        found = self._led(candidate, use) if self._may_lead(candidate) else self._compared(candidate, use)
        if UNSEEN not in found:
            with self._lock:
                self._verdicts[candidate.name, use] = found
        return found

    def _may_lead(self, candidate: EmbeddingCandidate) -> bool:
        return self._leader is None or self._leader.name == candidate.name

    def _led(self, candidate: EmbeddingCandidate, use: EmbeddingOptions) -> tuple[str, ...]:
        """Let a candidate set the space, if it still can; both sides are seen while it is there to be asked."""
        if self.record is not None and (found := self._against_record(self.record, candidate, use)):
            return found
        sides: tuple[EmbeddingOptions, ...] = (use,)
        if use.prompt is None:
            sides = (replace(use, side="document"), replace(use, side="query"))
        shown = {one: Evidence.of(candidate.backend, one) for one in sides}
        with self._lock:
            if self._leader is None:
                self._leader = candidate
            if self._leader.name == candidate.name:
                for one in sides:
                    self._references.setdefault(one, shown[one])
        return self._differences(candidate, use, shown[use])

    def _compared(self, candidate: EmbeddingCandidate, use: EmbeddingOptions) -> tuple[str, ...]:
        if use in self._references:
            return self._differences(candidate, use, Evidence.of(candidate.backend, use))
        if self.record is not None:
            return self._against_record(self.record, candidate, use)
        return self._against_files(candidate, use)

    def _differences(self, candidate: EmbeddingCandidate, use: EmbeddingOptions, shown: Evidence) -> tuple[str, ...]:
        reference = self._references.get(use)
        if reference is None:
            return (UNSEEN,)
        if candidate.is_declared_equal:
            return _turned(reference.vectors, shown.vectors, self._min_cosine)
        return reference.fingerprint.differences(shown.fingerprint)

    def _against_record(
        self, record: EmbeddingFingerprint, candidate: EmbeddingCandidate, use: EmbeddingOptions
    ) -> tuple[str, ...]:
        """Compare with a record, whose witness are vectors of documents."""
        is_query = use.side == "query"
        prompt = record.document_prompt if is_query and use.prompt is not None else use.prompt
        shown = Evidence.of(candidate.backend, replace(use, side="document", prompt=prompt))
        current = shown.fingerprint
        if use.prompt is not None:
            current = replace(current, query_prompt=use.prompt if is_query else record.query_prompt)
        if not candidate.is_declared_equal:
            return _certain_differences(record, current)
        if current.dimensions != record.dimensions:
            return ("dimensions",)
        if not record.witness:
            return (UNSEEN,)
        if is_query and current.query_prompt != record.query_prompt:
            return ("query_prompt",)
        import numpy as np

        kept = np.array(record.witness, np.float32)
        return _turned(kept, shown.vectors[:, :WITNESS_COORDINATES], self._min_cosine)

    def _against_files(self, candidate: EmbeddingCandidate, use: EmbeddingOptions) -> tuple[str, ...]:
        """Compare with what the first candidate's files say, where it has not embedded anything yet."""
        first = self._leader or self._first
        offered = candidate.backend.identity(use)
        try:
            wanted = first.backend.identity(use)
        except Exception:  # noqa: BLE001 - it has failed already, and is reported for that
            return (UNSEEN,)
        found = _certain_differences(wanted, offered)
        if candidate.is_declared_equal:
            return ("dimensions",) if "dimensions" in found else (UNSEEN,)
        # What only names speak for or against may look otherwise once the first candidate is there.
        return (UNSEEN,) if found and set(found) <= {"model", "revision", UNSEEN} else found


def _certain_differences(reference: EmbeddingFingerprint, other: EmbeddingFingerprint) -> tuple[str, ...]:
    """What differs, if agreement could be shown: equal names alone prove nothing."""
    found = reference.differences(other)
    have_witnesses = bool(reference.witness and other.witness)
    is_same_revision = reference.revision is not None and reference.revision == other.revision
    return found if found or have_witnesses or is_same_revision else (UNSEEN,)


def _turned(first: "NDArray[np.float32]", second: "NDArray[np.float32]", min_cosine: float) -> tuple[str, ...]:
    """What keeps rows of vectors from being the same ones in other arithmetic."""
    import numpy as np

    if first.shape != second.shape:
        return ("dimensions",)
    lengths, others = np.linalg.norm(first, axis=1), np.linalg.norm(second, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        cosines = np.sum(first * second, axis=1) / (lengths * others)
    # Written so that a vector that is no number, or zero, is never one that agrees.
    if not bool(np.all(cosines >= min_cosine)):
        return ("witness",)
    if not np.allclose(lengths, others, rtol=_LENGTH_TOLERANCE, atol=0):
        return ("normalize",)
    return ()
