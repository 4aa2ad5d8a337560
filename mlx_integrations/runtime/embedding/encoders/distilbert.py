"""DistilBERT: BERT without token types.

Source: https://github.com/huggingface/transformers/blob/v5.23.0/src/transformers/models/distilbert/modeling_distilbert.py
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from mlx_integrations.runtime._mlx import mx
from mlx_integrations.runtime.embedding.encoders.configuration import EncoderConfig
from mlx_integrations.runtime.embedding.encoders.layers import (
    Embeddings,
    PostNormEncoder,
    PostNormLayer,
    activation,
    head_size,
)

__all__ = ["DistilBertEncoder"]

_NORM_EPS = 1e-12  # fixed in transformers' code


class DistilBertEncoder(PostNormEncoder):
    """DistilBERT."""

    prefixes: ClassVar[tuple[str, ...]] = ("distilbert.",)
    names: ClassVar[Mapping[str, str]] = {
        "embeddings.LayerNorm": "embeddings.norm",
        "transformer.layer.*.attention.q_lin": "layers.*.attention.query",
        "transformer.layer.*.attention.k_lin": "layers.*.attention.key",
        "transformer.layer.*.attention.v_lin": "layers.*.attention.value",
        "transformer.layer.*.attention.out_lin": "layers.*.attention.output",
        "transformer.layer.*.sa_layer_norm": "layers.*.attention_norm",
        "transformer.layer.*.ffn.lin1": "layers.*.up",
        "transformer.layer.*.ffn.lin2": "layers.*.down",
        "transformer.layer.*.output_layer_norm": "layers.*.output_norm",
    }
    unused: ClassVar[tuple[str, ...]] = (
        "embeddings.position_ids",
        "vocab_transform.",
        "vocab_layer_norm.",
        "vocab_projector.",
    )

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        config.allow_only("pruned_heads", {})
        self.hidden_size = config.size("dim", "hidden_size")
        self.vocabulary_size = config.size("vocab_size")
        heads = config.size("n_heads", "num_attention_heads")
        head_size(config, self.hidden_size, heads)
        activate = activation(config, "activation")
        inner_size = config.size("hidden_dim")
        self.max_tokens = config.size("max_position_embeddings", default=512)
        self.embeddings = Embeddings(self.vocabulary_size, self.hidden_size, _NORM_EPS, positions=self.max_tokens)
        self.layers = [
            PostNormLayer(self.hidden_size, heads, inner_size, activate, _NORM_EPS)
            for _ in range(config.size("n_layers", "num_hidden_layers"))
        ]

    def embed(self, ids: Any, mask: Any) -> Any:
        """Words and positions, normalised."""
        return self.embeddings(ids, mx.arange(ids.shape[1])[None])
