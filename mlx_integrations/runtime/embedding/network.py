"""An embedding model with its weights: token ids in, vectors out. Worker thread only."""

from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np

from mlx_integrations.runtime._mlx import mx, tree_flatten
from mlx_integrations.runtime.embedding.encoders import make_encoder
from mlx_integrations.runtime.embedding.model_files import SentenceModel
from mlx_integrations.runtime.embedding.modules import load_module, pool
from mlx_integrations.runtime.embedding.weights import load_encoder_weights

__all__ = ["Network", "load_network"]


def load_network(model: SentenceModel, *, cpu_float32: bool) -> "Network":
    """Load an embedding model, its weights evaluated.

    Args:
        model: What its files say.
        cpu_float32: On the CPU backend, widen all weights to float32; the modules after pooling are float32 everywhere.

    Raises:
        ModelLoadError: Its weights are missing, damaged, or not those of the model that its files describe.
        UnsupportedArchitectureError: There is no code for its `model_type`.
    """
    folder = model.folder
    encoder = make_encoder(folder.config, path=folder.path)
    load_encoder_weights(encoder, folder.weights, config=folder.config, cpu_float32=cpu_float32)
    # Vectors are scaled to length 1 at the very end, after they were cut to the dimensions asked for.
    specs = model.modules[:-1] if model.normalize else model.modules
    return Network(model, encoder, [load_module(spec, model_path=model.path) for spec in specs])


class Network:
    """A loaded embedding model.

    Args:
        model: What its files say.
        encoder: Its transformer.
        modules: What follows pooling, but for a last Normalize.
    """

    def __init__(self, model: SentenceModel, encoder: Any, modules: Sequence[Any]) -> None:
        self._pooling = model.pooling
        self._encoder = encoder
        self._modules = list(modules)
        arrays = cast(list[tuple[str, Any]], tree_flatten([part.parameters() for part in (encoder, *modules)]))
        self.weight_bytes = sum(array.nbytes for _, array in arrays)
        """Memory of the weights, as loaded."""

    def stages(self, ids: Sequence[Sequence[int]], prompt_tokens: Sequence[int], pad_id: int) -> Iterator[Any]:
        """Compute the vectors of a batch, one layer at a time.

        Args:
            ids: Token ids of each row.
            prompt_tokens: How many of them, from the first, belong to the prompt.
            pad_id: What fills up the shorter rows.

        Yields:
            Arrays that may be evaluated one by one or not at all; the last is (B, dimensions) float32, before a last
            Normalize.
        """
        lengths = np.array([len(row) for row in ids], np.int32)
        # A row of an empty text may have no tokens at all, and no layer takes a batch without columns.
        columns = max(int(lengths.max()), 1)
        padded = np.full((len(ids), columns), pad_id, np.int32)
        for at, row in enumerate(ids):
            padded[at, : len(row)] = row
        mask = mx.array(np.arange(columns)[None] < lengths[:, None])
        hidden = None
        for hidden in self._encoder.stages(mx.array(padded), mask):
            yield hidden
        vectors = pool(hidden, mask, self._pooling, mx.array(np.array(prompt_tokens, np.int32)))
        for module in self._modules:
            vectors = module(vectors)
        yield vectors
