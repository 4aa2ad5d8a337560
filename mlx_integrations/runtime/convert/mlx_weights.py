"""A model's weights as MLX wants them, one tensor at a time.

MLX's work happens on the worker thread, a tensor a command, so that answers being written there go on in between.
Nothing is evaluated before it is read, and what was read is let go.
"""

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from mlx_integrations.runtime.blas import preload_blas
from mlx_integrations.runtime.convert.tensors import Bits, Tensor
from mlx_integrations.runtime.worker import Worker

__all__ = ["MLXWeights"]

_DTYPES: Final = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint64": "U64",
    "uint32": "U32",
    "uint16": "U16",
    "uint8": "U8",
    "bool": "BOOL",
}


class MLXWeights:
    """The weights of one model on their way through MLX.

    Args:
        worker: The thread that MLX runs on.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._weights: dict[str, Any] = {}

    def load(
        self, model_path: Path, config_file: Path, *, dtype: str | None, bits: int | None, group_size: int
    ) -> list[Tensor]:
        """Name the tensors that a folder in the Hugging Face format becomes, and write the config.json they need.

        Raises:
            ValueError: The tensors are not those of the model; so for the next ones.
            TypeError: The configuration lacks something.
        """
        options = {"dtype": dtype, "bits": bits, "group_size": group_size}
        found = self._worker.call(self._load, model_path, config_file, options).result()
        return [
            Tensor(name=name, dtype=kind, shape=shape, chunks=partial(self._chunks, name))
            for name, kind, shape in found
        ]

    def close(self) -> None:
        """Let go of what was not read."""
        self._worker.call(self._release).result()

    def _chunks(self, name: str) -> Iterator[Bits]:
        yield self._worker.call(self._take, name).result()

    def _load(
        self, model_path: Path, config_file: Path, options: dict[str, Any]
    ) -> list[tuple[str, str, tuple[int, ...]]]:
        if "mlx.core" not in sys.modules:  # else a runtime has decided about it
            preload_blas()
        from mlx_integrations.runtime._mlx import lazy_weights

        self._weights = lazy_weights(model_path, config_file, **options)
        return [
            (name, _DTYPES[str(value.dtype).removeprefix("mlx.core.")], tuple(value.shape))
            for name, value in self._weights.items()
        ]

    def _take(self, name: str) -> Bits:
        from mlx_integrations.runtime._mlx import mx

        return np.array(mx.contiguous(self._weights.pop(name)).reshape(-1).view(mx.uint8))

    def _release(self) -> None:
        from mlx_integrations.runtime._mlx import mx

        self._weights.clear()
        mx.clear_cache()
