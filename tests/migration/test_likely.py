"""Which model probably made the vectors of a store."""

import numpy as np
import pytest
from numpy.typing import NDArray

from mlx_integrations.errors import StoreError
from mlx_integrations.fingerprint import EmbeddingFingerprint
from mlx_integrations.migration.likely import likely_model
from mlx_integrations.registry import ModelRegistry
from tests.migration.stores import vectors


def of_length(length: float, dimensions: int) -> NDArray[np.float32]:
    made = vectors(4, dimensions)
    return np.asarray(made / np.linalg.norm(made, axis=1, keepdims=True) * length, np.float32)


@pytest.mark.parametrize(
    ("dimensions", "named"),
    [
        (1536, "such as text-embedding-3-small or text-embedding-ada-002"),
        (3072, "such as text-embedding-3-large or gemini-embedding-001"),
        (384, "such as minilm-l6-v2, minilm-l12-v2 or bge-small-en-v1.5"),
        (256, "embeddinggemma-300m cut to 256"),
    ],
)
def test_well_known_models_are_guessed_by_their_size(dimensions: int, named: str) -> None:
    assert named in (likely_model((dimensions,)) or "")


def test_every_local_model_that_is_alone_with_its_size_is_named() -> None:
    entries = [entry for entry in ModelRegistry.embedded().entries if entry.kind == "embedding"]
    for size in {entry.dimensions for entry in entries if entry.dimensions}:
        guess = likely_model((size,)) or ""
        assert any(entry.id in guess for entry in entries if entry.dimensions == size)


def test_nothing_is_guessed_without_a_reason() -> None:
    assert likely_model(()) is None
    assert likely_model((384, 1536)) is None
    assert likely_model((777,)) is None
    assert likely_model((384,), fingerprint=EmbeddingFingerprint(model="mine", dimensions=384)) is None


def test_vectors_of_another_length_are_not_of_a_model_that_makes_length_one() -> None:
    assert likely_model((3072,), sample=lambda: of_length(7, 3072)) == "such as gemini-embedding-001"
    assert likely_model((1536,), sample=lambda: of_length(7, 1536)) is None
    assert "3-small" in (likely_model((1536,), sample=lambda: of_length(1, 1536)) or "")


def test_an_index_that_gives_no_vectors_back_tells_nothing_of_their_length() -> None:
    def refuses() -> NDArray[np.float32]:
        raise StoreError("it does not give them back", store="x")

    assert "3-small" in (likely_model((1536,), sample=refuses) or "")
    assert "3-small" in (likely_model((1536,), sample=lambda: np.empty((0, 1536), np.float32)) or "")


def test_a_model_that_the_store_names_counts_unless_it_makes_other_vectors() -> None:
    assert likely_model((768,), hints=["nomic-embed-text"]) == "such as nomic-embed-text, which the store names"
    assert likely_model((512,), hints=["", "text-embedding-3-small"]) == (
        "such as text-embedding-3-small, which the store names"
    )
    # A collection that was made for Chroma's own model and filled by another one.
    guess = likely_model((1536,), hints=["sentence-transformers/all-MiniLM-L6-v2"]) or ""
    assert "MiniLM" not in guess and "3-small" in guess
