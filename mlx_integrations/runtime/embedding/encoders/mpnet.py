"""MPNet: RoBERTa's positions, and in every layer one bias a head for the distance between two tokens.

Source: https://github.com/huggingface/transformers/blob/v5.23.0/src/transformers/models/mpnet/modeling_mpnet.py
"""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mlx_integrations.runtime._mlx import mx, nn
from mlx_integrations.runtime.embedding.encoders.bert import check_is_encoder
from mlx_integrations.runtime.embedding.encoders.configuration import EncoderConfig
from mlx_integrations.runtime.embedding.encoders.layers import (
    Embeddings,
    PostNormEncoder,
    PostNormLayer,
    activation,
    head_size,
    padding_bias,
)
from mlx_integrations.runtime.embedding.encoders.roberta import positions_after

__all__ = ["MPNetEncoder"]

# Fixed in transformers' code, whatever config.json says.
_PADDING_ID = 1
_BUCKETS = 32
_MAX_DISTANCE = 128


class MPNetEncoder(PostNormEncoder):
    """MPNet."""

    prefixes: ClassVar[tuple[str, ...]] = ("mpnet.",)
    names: ClassVar[Mapping[str, str]] = {
        "encoder.relative_attention_bias": "distance_bias",
        "embeddings.LayerNorm": "embeddings.norm",
        "encoder.layer.*.attention.attn.q": "layers.*.attention.query",
        "encoder.layer.*.attention.attn.k": "layers.*.attention.key",
        "encoder.layer.*.attention.attn.v": "layers.*.attention.value",
        "encoder.layer.*.attention.attn.o": "layers.*.attention.output",
        "encoder.layer.*.attention.LayerNorm": "layers.*.attention_norm",
        "encoder.layer.*.intermediate.dense": "layers.*.up",
        "encoder.layer.*.output.dense": "layers.*.down",
        "encoder.layer.*.output.LayerNorm": "layers.*.output_norm",
    }
    unused: ClassVar[tuple[str, ...]] = ("embeddings.position_ids", "pooler.", "lm_head.")

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        check_is_encoder(config)
        self.hidden_size = config.size("hidden_size")
        self.vocabulary_size = config.size("vocab_size")
        heads = config.size("num_attention_heads")
        head_size(config, self.hidden_size, heads)
        eps = config.number("layer_norm_eps", default=1e-12)
        activate = activation(config, "hidden_act")
        inner_size = config.size("intermediate_size")
        positions = config.size("max_position_embeddings", default=512)
        buckets = config.size("relative_attention_num_buckets", default=_BUCKETS)
        if buckets < _BUCKETS or positions < _PADDING_ID + 2:
            raise config.unsupported(f"{buckets} buckets of distances and {positions} positions")
        self.max_tokens = positions - 1 - _PADDING_ID
        self.embeddings = Embeddings(self.vocabulary_size, self.hidden_size, eps, positions=positions)
        self.distance_bias = nn.Embedding(buckets, heads)
        self.layers = [
            PostNormLayer(self.hidden_size, heads, inner_size, activate, eps)
            for _ in range(config.size("num_hidden_layers"))
        ]

    def embed(self, ids: Any, mask: Any) -> Any:
        """Words and positions, normalised."""
        return self.embeddings(ids, positions_after(_PADDING_ID, ids, mask))

    def attention_bias(self, mask: Any, dtype: Any) -> Any:
        """The biases of the distances, and of the padding: (B, heads, T, T)."""
        offsets = np.arange(mask.shape[1])
        buckets = mx.array(_bucket(offsets[None, :] - offsets[:, None]).astype(np.int32))
        return self.distance_bias(buckets).transpose(2, 0, 1) + padding_bias(mask, dtype)


def _bucket(offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Which row of the bias table belongs to a key that lies so many tokens after its query.

    Half of the rows for either direction; the first half of those for one distance each, the rest for ranges that
    grow. In float32, as transformers computes it: that decides where a range ends.
    """
    half, exact = _BUCKETS // 2, _BUCKETS // 4
    distances = np.abs(offsets)
    logarithms = np.log(np.maximum(distances, 1).astype(np.float32) / np.float32(exact))
    steps = logarithms / np.float32(math.log(_MAX_DISTANCE / exact)) * np.float32(half - exact)
    rows = np.where(distances < exact, distances, np.minimum(exact + steps.astype(np.int64), half - 1))
    return rows + np.where(offsets > 0, half, 0)
