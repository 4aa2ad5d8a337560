"""The shape of the model: a Llama of 1.4 million weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from mlx_integrations.demo.recipe import tokenizer


@dataclass(frozen=True)
class Shape:
    """Sizes of a Llama model with tied embeddings and as many key heads as query heads."""

    vocabulary: int = 1096
    width: int = 128
    layers: int = 6
    heads: int = 4
    feed_forward: int = 384
    context_tokens: int = 1024
    rope_theta: float = 10000.0
    norm_epsilon: float = 1e-5

    @property
    def head_width(self) -> int:
        """Numbers per attention head."""
        return self.width // self.heads

    def config(self) -> dict[str, Any]:
        """Returns the content of config.json, as transformers and mlx-lm read it."""
        vocabulary = tokenizer.load()
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": self.vocabulary,
            "hidden_size": self.width,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.heads,
            "head_dim": self.head_width,
            "intermediate_size": self.feed_forward,
            "hidden_act": "silu",
            "max_position_embeddings": self.context_tokens,
            "rms_norm_eps": self.norm_epsilon,
            "rope_theta": self.rope_theta,
            "rope_scaling": None,
            "attention_bias": False,
            "mlp_bias": False,
            "tie_word_embeddings": True,
            "bos_token_id": None,
            "eos_token_id": vocabulary.token_to_id(tokenizer.TURN_END),
            "pad_token_id": vocabulary.token_to_id(tokenizer.PAD),
            "torch_dtype": "float32",
        }


SHAPE: Final = Shape()
