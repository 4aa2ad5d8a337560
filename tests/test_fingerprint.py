"""Fingerprints tell models apart, know the same weights again, and survive a file."""

import json
import math
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_integrations.fingerprint import WITNESS_COORDINATES, WITNESS_TEXTS, EmbeddingFingerprint
from mlx_integrations.testing import FakeEmbeddingBackend
from mlx_integrations.types import EmbeddingOptions, EmbeddingResult

names = st.text(min_size=1, max_size=8)
prompts = st.sampled_from(["", "query: ", "passage: "])
coordinates = st.floats(-1, 1, allow_nan=False)
witnesses = st.lists(st.lists(coordinates, min_size=1, max_size=4).map(tuple), max_size=4).map(tuple)
fingerprints = st.builds(
    EmbeddingFingerprint,
    model=names,
    revision=st.none() | names,
    dimensions=st.integers(1, 4096),
    pooling=st.sampled_from(["", "mean", "cls"]),
    normalize=st.booleans(),
    query_prompt=prompts,
    document_prompt=prompts,
    max_tokens=st.none() | st.integers(1, 512),
    witness=witnesses,
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FIELDS = [field.name for field in fields(EmbeddingFingerprint)]
PLAIN = EmbeddingFingerprint(model="a", revision="1", dimensions=3, pooling="mean")


@given(fingerprints)
def test_a_fingerprint_can_be_compared_with_itself_and_comes_back_from_a_file(first: EmbeddingFingerprint) -> None:
    again = EmbeddingFingerprint.from_dict(json.loads(json.dumps(first.to_dict())))
    assert again == first
    assert again.digest() == first.digest()
    assert first.differences(again) == ()


@given(fingerprints, fingerprints)
def test_equal_digests_mean_equal_in_all_but_the_witness(
    first: EmbeddingFingerprint, second: EmbeddingFingerprint
) -> None:
    assert (first.digest() == second.digest()) == (replace(first, witness=()) == replace(second, witness=()))
    assert len(first.digest()) == 16 and int(first.digest(), 16) >= 0


@given(fingerprints, fingerprints)
def test_differences_do_not_depend_on_who_is_asked(first: EmbeddingFingerprint, second: EmbeddingFingerprint) -> None:
    assert first.differences(second) == second.differences(first)


@given(fingerprints, st.sampled_from(["dimensions", "normalize", "query_prompt", "document_prompt"]))
def test_another_use_is_always_a_difference(first: EmbeddingFingerprint, name: str) -> None:
    value = getattr(first, name)
    changed = {"dimensions": 5000, "normalize": not first.normalize}.get(name, f"{value}!")
    other = replace(first, **{name: changed})  # type: ignore[arg-type]
    assert name in first.differences(other)


@given(fingerprints, st.floats(-0.02, 0.02))
def test_a_little_noise_is_no_difference(first: EmbeddingFingerprint, noise: float) -> None:
    near = replace(first, witness=tuple(tuple(x * (1 + noise) for x in row) for row in first.witness))
    assert first.differences(near) == ()


@given(fingerprints)
def test_how_much_is_read_of_a_text_is_no_difference_but_another_digest(first: EmbeddingFingerprint) -> None:
    other = replace(first, max_tokens=9999)
    assert first.differences(other) == ()
    assert first.digest() != other.digest()


@pytest.mark.parametrize(
    ("other", "different"),
    [
        (replace(PLAIN, model="b"), ("model",)),
        (replace(PLAIN, revision="2"), ("revision",)),
        (replace(PLAIN, revision=None), ()),
        (replace(PLAIN, pooling="cls"), ("pooling",)),
        (replace(PLAIN, pooling=""), ()),
        (replace(PLAIN, witness=((1.0,),)), ()),
        (replace(PLAIN, model="b", dimensions=4), ("model", "dimensions")),
    ],
)
def test_without_two_witnesses_names_and_revisions_decide(
    other: EmbeddingFingerprint, different: tuple[str, ...]
) -> None:
    assert PLAIN.differences(other) == different


def test_with_two_witnesses_the_vectors_decide() -> None:
    first, renamed, other = (
        FakeEmbeddingBackend(model_id=name, revision=revision, seed=seed).fingerprint()
        for name, revision, seed in [("a", "1", 0), ("b", "2", 0), ("a", "1", 1)]
    )
    assert first.differences(renamed) == ()
    assert first.differences(other) == ("witness",)
    assert first.digest() != renamed.digest(), "a cache is stricter than a store: it is cheap to fill again"


def test_a_witness_is_the_beginning_of_vectors_of_fixed_texts() -> None:
    backend = FakeEmbeddingBackend(dimensions=40)
    vectors = EmbeddingResult.join(backend.stream(WITNESS_TEXTS)).vectors
    witness = backend.fingerprint().witness
    assert [len(row) for row in witness] == [WITNESS_COORDINATES] * len(WITNESS_TEXTS)
    for row, vector in zip(witness, vectors, strict=True):
        assert math.dist(row, vector[:WITNESS_COORDINATES]) < 1e-5
        assert all(round(x, 6) == x for x in row)
    assert len(backend.fingerprint(EmbeddingOptions(dimensions=4)).witness[0]) == 4


@given(json_values)
def test_whatever_a_file_holds_is_a_fingerprint_or_a_value_error(value: Any) -> None:
    values = value if isinstance(value, dict) else {"model": "a", "dimensions": value}
    try:
        made = EmbeddingFingerprint.from_dict(values)
    except ValueError as error:
        assert "not an embedding fingerprint" in str(error)  # noqa: PT017 -- both ways are right
    else:
        assert made.dimensions > 0 and isinstance(made.model, str)


@given(fingerprints, st.sampled_from(FIELDS), json_values)
def test_a_wrong_value_is_found_or_harmless(first: EmbeddingFingerprint, name: str, value: Any) -> None:
    try:
        made = EmbeddingFingerprint.from_dict({**first.to_dict(), name: value})
    except ValueError:
        return
    made.digest()
    made.differences(first)
    first.differences(made)


def test_what_a_later_version_adds_is_left_alone() -> None:
    assert EmbeddingFingerprint.from_dict({**PLAIN.to_dict(), "colour": "blue"}) == PLAIN


@pytest.mark.parametrize("name", ["model", "dimensions"])
def test_what_every_fingerprint_has_may_not_be_missing(name: str) -> None:
    values = PLAIN.to_dict()
    del values[name]
    with pytest.raises(ValueError, match=name):
        EmbeddingFingerprint.from_dict(values)
