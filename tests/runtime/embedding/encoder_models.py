"""Tiny checkpoints of encoders, changed as a test needs it, and what our encoders make of them on the worker thread."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from mlx_integrations.runtime.folder import read_folder
from tests.runtime.embedding.sentence_models import DATA, on_worker

ENCODERS = DATA / "encoders"
NAMES = sorted(path.name for path in ENCODERS.iterdir())

Hidden = NDArray[np.float32]
Tensors = dict[str, NDArray[Any]]


def references(name: str) -> dict[str, NDArray[Any]]:
    """What transformers computed; see make_encoder_references.py."""
    with np.load(ENCODERS / name / "reference.npz") as arrays:
        return dict(arrays)


@dataclass
class Checkpoint:
    """A checkpoint that can be changed before it is written."""

    config: dict[str, Any]
    tensors: Tensors
    files: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, name: str) -> "Checkpoint":
        folder = ENCODERS / name
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return cls(config, load_file(folder / "model.safetensors"))

    def rename(self, change: Callable[[str], str]) -> "Checkpoint":
        self.tensors = {change(name): tensor for name, tensor in self.tensors.items()}
        return self

    def write(self, folder: Path) -> Path:
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text(json.dumps(self.config), encoding="utf-8")
        save_file(self.tensors, folder / "model.safetensors")
        return folder


def compute(
    folder: Path,
    ids: NDArray[np.int32],
    mask: NDArray[np.bool_] | None = None,
    *,
    cpu_float32: bool = True,
    changes: Mapping[str, Any] | None = None,
) -> list[Hidden]:
    """Load a folder and return every stage, (B, T, hidden) each.

    Args:
        folder: With config.json and model.safetensors.
        ids: (B, T).
        mask: (B, T); everything counts if it is not given.
        cpu_float32: Widen the weights.
        changes: Keys of config.json that are something else.
    """
    seen = np.ones(ids.shape, bool) if mask is None else mask

    def run() -> list[Hidden]:
        from mlx_integrations.runtime._mlx import mx

        encoder = load(folder, cpu_float32=cpu_float32, changes=changes)
        return [np.array(stage.astype(mx.float32)) for stage in encoder.stages(mx.array(ids), mx.array(seen))]

    return on_worker(run)


def load(folder: Path, *, cpu_float32: bool = True, changes: Mapping[str, Any] | None = None) -> Any:
    """The encoder of a folder; worker thread only."""
    from mlx_integrations.runtime.embedding.encoders import make_encoder
    from mlx_integrations.runtime.embedding.weights import load_encoder_weights

    read = read_folder(folder)
    config = {**read.config, **(changes or {})}
    encoder = make_encoder(config, path=read.path)
    load_encoder_weights(encoder, read.weights, config=config, cpu_float32=cpu_float32)
    return encoder
