"""Which model probably made the vectors of a store that has no record of it. A guess, and worded as one.

What there is to go by: how many coordinates vectors have, how long they are, and what the store itself has written down
about a model, as Chroma does of its own embedding functions.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Final

from mlx_integrations.errors import MLXIntegrationsError
from mlx_integrations.fingerprint import EmbeddingFingerprint

if TYPE_CHECKING:  # a type only: importing this module stays fast
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["SAMPLED_ROWS", "likely_model"]

SAMPLED_ROWS: Final = 8
"""Vectors that are looked at are few: reading them costs more than it tells."""

# Models that are asked over a network, which no catalogue of local ones has, by the coordinates of their vectors.
# https://platform.openai.com/docs/guides/embeddings, https://docs.cohere.com/docs/cohere-embed,
# https://docs.mistral.ai/capabilities/embeddings, https://ai.google.dev/gemini-api/docs/embeddings
_ELSEWHERE: Final[dict[int, tuple[str, ...]]] = {
    1024: ("embed-english-v3.0", "mistral-embed"),
    1536: ("text-embedding-3-small", "text-embedding-ada-002"),
    3072: ("text-embedding-3-large", "gemini-embedding-001"),
}
# Their vectors have length 1. https://platform.openai.com/docs/guides/embeddings (frequently asked questions)
_OF_LENGTH_ONE: Final = ("text-embedding-3-small", "text-embedding-ada-002", "text-embedding-3-large")
_LENGTH_ERROR: Final = 0.01  # of vectors that were stored in half precision, or as text
_NAMED: Final = 3


def likely_model(
    dimensions: Sequence[int],
    *,
    fingerprint: EmbeddingFingerprint | None = None,
    hints: Iterable[str] = (),
    sample: "Callable[[], NDArray[np.float32]] | None" = None,
) -> str | None:
    """A guess at the model of a store, for people: `such as text-embedding-3-small or text-embedding-ada-002`.

    Args:
        dimensions: Of the store's vectors, each kind that occurs.
        fingerprint: The record of the model; where there is one, nothing is guessed.
        hints: Names of models that the store has written down. One that is known to make other vectors is left aside.
        sample: Reads a few vectors, if they come out of the store as they went in.

    Returns:
        The guess; `None` where there is a record, or nothing to go by.
    """
    if fingerprint is not None or len(dimensions) != 1:
        return None
    size = dimensions[0]
    named = next((hint for hint in hints if hint and size in _known_sizes().get(_plain(hint), (size,))), None)
    if named is not None:
        return f"such as {named}, which the store names"
    names = _models_of(size)
    if any(name in _OF_LENGTH_ONE for name in names) and not _are_of_length_one(sample):
        names = tuple(name for name in names if name not in _OF_LENGTH_ONE)
    return f"such as {_listed(names[:_NAMED])}" if names else None


@cache
def _models_of(size: int) -> tuple[str, ...]:
    """Models whose vectors have so many coordinates: whole ones first, then those that are cut to it."""
    from mlx_integrations.registry.catalogue import ModelRegistry

    entries = [entry for entry in ModelRegistry.embedded().entries if entry.kind == "embedding"]
    whole = [entry.id for entry in entries if entry.dimensions == size]
    cut = [f"{entry.id} cut to {size}" for entry in entries if size in entry.smaller_dimensions]
    return (*whole[:1], *_ELSEWHERE.get(size, ()), *whole[1:], *cut)


@cache
def _known_sizes() -> dict[str, tuple[int, ...]]:
    """What each model that is known makes, by its names."""
    from mlx_integrations.registry.catalogue import ModelRegistry

    found: dict[str, tuple[int, ...]] = {
        name: (size,) for size, names in _ELSEWHERE.items() for name in names if name not in _OF_LENGTH_ONE
    }
    for entry in ModelRegistry.embedded().entries:
        if entry.kind == "embedding" and entry.dimensions is not None:
            found |= {_plain(name): (entry.dimensions, *entry.smaller_dimensions) for name in entry.names}
    return found


def _plain(name: str) -> str:
    return name.rpartition("/")[2].lower()


def _are_of_length_one(sample: "Callable[[], NDArray[np.float32]] | None") -> bool:
    """Whether some vectors have length 1; `True` where there are none to look at."""
    import numpy as np

    try:
        vectors = None if sample is None else sample()
    except MLXIntegrationsError:  # an index that does not give its vectors back, or a client that is not installed
        return True
    if vectors is None or not len(vectors):
        return True
    return bool((np.abs(np.linalg.norm(vectors, axis=1) - 1) < _LENGTH_ERROR).all())


def _listed(names: Sequence[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} or {last}" if most else last
