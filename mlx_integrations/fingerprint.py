"""What makes two sets of vectors comparable: the identity of an embedding model, small enough to lie beside a store.

A fingerprint names the model and how it was used, and holds a witness: the beginning of its vectors for a few fixed
texts. The witness decides: the same weights under another name agree, other weights under the same name do not.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

__all__ = ["WITNESS_COORDINATES", "WITNESS_TEXTS", "EmbeddingFingerprint"]

WITNESS_TEXTS: Final = (
    "The quick brown fox jumps over the lazy dog.",
    "How do I reset my password?",
    "def add(a, b):\n    return a + b",
    "Zażółć gęślą jaźń: 東京, Привет, 42.",
)
"""Embedded as documents for the witness. Changing them makes every stored fingerprint useless."""
WITNESS_COORDINATES: Final = 16
"""How many coordinates of each vector are kept."""

_TOLERANCE = 0.05  # of a vector's length: other hardware and quantisation stay below, other weights are near 1
_LENGTH_ERROR = 1e-3  # of vectors that were made in half precision and have length 1
_KINDS = {
    "model": (str,),
    "revision": (str, type(None)),
    "dimensions": (int,),
    "pooling": (str,),
    "normalize": (bool,),
    "query_prompt": (str,),
    "document_prompt": (str,),
    "max_tokens": (int, type(None)),
}
_USE_FIELDS = ("dimensions", "pooling", "normalize", "query_prompt", "document_prompt")


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingFingerprint:
    """The identity of the vectors that a model makes.

    Attributes:
        model: The name it was asked for by.
        revision: The commit of its repository, or a digest of its files; `None` if neither is known.
        dimensions: Coordinates of a vector, after truncation.
        pooling: How token vectors become one; empty if unknown.
        normalize: Whether vectors have length 1.
        query_prompt: Put before queries.
        document_prompt: Put before documents.
        max_tokens: Where texts are cut.
        witness: The first coordinates of the vectors of `WITNESS_TEXTS`, rounded to six digits; empty if unknown.
    """

    model: str
    revision: str | None = None
    dimensions: int
    pooling: str = ""
    normalize: bool = True
    query_prompt: str = ""
    document_prompt: str = ""
    max_tokens: int | None = None
    witness: tuple[tuple[float, ...], ...] = ()

    @staticmethod
    def witness_of(vectors: Sequence[Sequence[float]]) -> tuple[tuple[float, ...], ...]:
        """The witness made of the vectors of `WITNESS_TEXTS`."""
        return tuple(tuple(round(float(x), 6) for x in vector[:WITNESS_COORDINATES]) for vector in vectors)

    @classmethod
    def of_vectors(cls, model: str, vectors: Sequence[Sequence[float]]) -> "EmbeddingFingerprint":
        """The fingerprint of a model that does not know its own.

        Args:
            model: Its name.
            vectors: What it makes of `WITNESS_TEXTS`.
        """
        return cls(
            model=model,
            dimensions=len(vectors[0]),
            normalize=all(abs(math.hypot(*vector) - 1) < _LENGTH_ERROR for vector in vectors),
            witness=cls.witness_of(vectors),
        )

    def differences(self, other: "EmbeddingFingerprint") -> tuple[str, ...]:
        """The fields that keep the vectors of both from being compared; empty when they can be.

        Where both have a witness, it stands for model and revision; otherwise those must be equal. An unknown pooling
        equals any. `max_tokens` never counts: it changes what is read of a long text, not what vectors mean.
        """
        found = [name for name in _USE_FIELDS if getattr(self, name) != getattr(other, name)]
        if "pooling" in found and not (self.pooling and other.pooling):
            found.remove("pooling")
        if self.witness and other.witness:
            if self.dimensions == other.dimensions and not _agree(self.witness, other.witness):
                found.insert(0, "witness")
        elif self.model != other.model:
            found.insert(0, "model")
        elif None not in (self.revision, other.revision) and self.revision != other.revision:
            found.insert(0, "revision")
        return tuple(found)

    def digest(self) -> str:
        """16 hexadecimal digits that differ when vectors may differ at all; fit for cache keys and folder names.

        The witness is left out: its last digits depend on the machine.
        """
        identity = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "witness"}
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "EmbeddingFingerprint":
        """The fingerprint that `to_dict` wrote; keys it does not know are left alone.

        Raises:
            ValueError: A value is missing or of the wrong kind.
        """
        known = {field.name: values[field.name] for field in fields(cls) if field.name in values}
        try:
            known["witness"] = tuple(tuple(float(x) for x in row) for row in known.get("witness", ()))
            made = cls(**known)
        except (TypeError, ValueError) as error:
            raise ValueError(f"not an embedding fingerprint: {error}") from error
        for name, kinds in _KINDS.items():
            value = getattr(made, name)
            if type(value) not in kinds:
                raise ValueError(f"not an embedding fingerprint: `{name}` is `{value!r}`")
        if made.dimensions < 1:
            raise ValueError("not an embedding fingerprint: it has no dimensions")
        return made


def _agree(first: Sequence[Sequence[float]], second: Sequence[Sequence[float]]) -> bool:
    """Whether two witnesses come from the same weights."""
    if [len(row) for row in first] != [len(row) for row in second]:
        return False
    lengths = [max(math.hypot(*a), math.hypot(*b), 1e-6) for a, b in zip(first, second, strict=True)]
    return all(math.dist(a, b) <= _TOLERANCE * size for a, b, size in zip(first, second, lengths, strict=True))
