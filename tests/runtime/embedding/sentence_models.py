"""Embedding models of the tests: folders put together, references read, vectors computed on the worker thread."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mlx_integrations.runtime.blas import preload_blas
from mlx_integrations.runtime.embedding.model_files import SentenceModel
from mlx_integrations.runtime.embedding.text import TextEncoder
from mlx_integrations.runtime.worker import get_worker

T = TypeVar("T")
Vectors = NDArray[np.float32]

DATA = Path(__file__).parent / "data"
MODELS = DATA / "sentence_models"
NAMES = sorted(path.name for path in MODELS.iterdir() if path.name != "transformers")
DECODERS = ("gemma3-two-dense", "llama-weightedmean", "mistral-lasttoken", "qwen2-both-ways", "qwen3-lasttoken")


@dataclass(frozen=True)
class Reference:
    """What sentence-transformers made of a model's texts."""

    texts: list[str]
    cases: dict[str, dict[str, Any]]
    vectors: dict[str, Vectors]
    values: dict[str, Any]


def reference(name: str) -> Reference:
    values = json.loads((MODELS / name / "reference.json").read_text(encoding="utf-8"))
    with np.load(MODELS / name / "vectors.npz") as arrays:
        vectors = dict(arrays)
    return Reference(values["texts"], values["cases"], vectors, values)


def assemble(name: str, target: Path) -> Path:
    """The whole folder of a model: the shared transformer, and what is its own."""
    transformer = json.loads((MODELS / name / "reference.json").read_text(encoding="utf-8"))["transformer"]
    shutil.copytree(MODELS / "transformers" / transformer, target)
    own = shutil.ignore_patterns("reference.json", "vectors.npz")
    shutil.copytree(MODELS / name, target, dirs_exist_ok=True, ignore=own)
    return target


def edit(file: Path, *removed: str, **changed: Any) -> None:
    """Change keys of a JSON file; make it if there is none."""
    values = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    kept = {key: value for key, value in values.items() if key not in removed}
    file.write_text(json.dumps(kept | changed), encoding="utf-8")


def on_worker(function: Callable[..., T], *arguments: Any) -> T:
    preload_blas()
    return get_worker().call(function, *arguments).result()


def embed(
    model: SentenceModel, texts: Sequence[str], prompt: str = "", *, batch_size: int = 1, dimensions: int | None = None
) -> Vectors:
    """Vectors as the backend finishes them: cut to the dimensions, then scaled if the model says so."""
    encoder = TextEncoder(model)
    rows = encoder.encode(texts, prompt)

    def compute() -> Vectors:
        from mlx_integrations.runtime.embedding.network import load_network

        network = load_network(model, cpu_float32=True)
        found: list[Vectors] = []
        for start in range(0, len(rows), batch_size):
            batch = rows[start : start + batch_size]
            *_, last = network.stages([row.ids for row in batch], [row.prompt_tokens for row in batch], encoder.pad_id)
            found.append(np.array(last))
        return np.concatenate(found)

    vectors: Vectors = on_worker(compute)[:, :dimensions]
    return scaled(vectors) if model.normalize or dimensions else vectors


def scaled(vectors: Vectors) -> Vectors:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    result: Vectors = vectors / np.maximum(lengths, 1e-12)
    return result
