"""BERT (https://github.com/huggingface/transformers/blob/v5.23.0/src/transformers/models/bert/modeling_bert.py)."""

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

__all__ = ["LAYER_NAMES", "BertEncoder", "check_is_encoder"]

LAYER_NAMES = {
    "encoder.layer.*.attention.self.query": "layers.*.attention.query",
    "encoder.layer.*.attention.self.key": "layers.*.attention.key",
    "encoder.layer.*.attention.self.value": "layers.*.attention.value",
    "encoder.layer.*.attention.output.dense": "layers.*.attention.output",
    "encoder.layer.*.attention.output.LayerNorm": "layers.*.attention_norm",
    "encoder.layer.*.intermediate.dense": "layers.*.up",
    "encoder.layer.*.output.dense": "layers.*.down",
    "encoder.layer.*.output.LayerNorm": "layers.*.output_norm",
}


class BertEncoder(PostNormEncoder):
    """BERT: learned positions from 0, every token of type 0."""

    prefixes: ClassVar[tuple[str, ...]] = ("bert.",)
    names: ClassVar[Mapping[str, str]] = {**LAYER_NAMES, "embeddings.LayerNorm": "embeddings.norm"}
    unused: ClassVar[tuple[str, ...]] = (
        "embeddings.position_ids",
        "embeddings.token_type_ids",
        "pooler.",
        "cls.",
        "lm_head.",
    )

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
        self.max_tokens = positions
        types = config.size("type_vocab_size", default=2)
        self.embeddings = Embeddings(self.vocabulary_size, self.hidden_size, eps, positions=positions, types=types)
        self.layers = [
            PostNormLayer(self.hidden_size, heads, inner_size, activate, eps)
            for _ in range(config.size("num_hidden_layers"))
        ]

    def embed(self, ids: Any, mask: Any) -> Any:
        """Words, types and positions, normalised."""
        return self.embeddings(ids, self.positions(ids, mask))

    def positions(self, ids: Any, mask: Any) -> Any:
        """The rows of the position table that the tokens get; broadcasts to (B, T)."""
        return mx.arange(ids.shape[1])[None]


def check_is_encoder(config: EncoderConfig) -> None:
    """Refuse what the configuration of a BERT can ask for beyond an encoder with learned positions.

    Raises:
        UnsupportedArchitectureError: Other positions, a decoder, removed heads.
    """
    config.allow_only("position_embedding_type", "absolute")
    config.allow_only("is_decoder", False)
    config.allow_only("add_cross_attention", False)
    config.allow_only("pruned_heads", {})
