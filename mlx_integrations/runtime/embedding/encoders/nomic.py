"""Nomic's BERT: rotary positions and gated feed-forward in the layers of a BERT.

Two forms of configuration: that of Nomic's own code, with GPT-2's names (nomic-ai/nomic-bert-2048 on the Hub;
https://github.com/nomic-ai/contrastors, src/contrastors/models/huggingface), and that of transformers
(models/nomic_bert/modeling_nomic_bert.py in 5.23). Published models have the first, or both; the tensors are the same.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

from mlx_integrations.runtime._mlx import mx, nn
from mlx_integrations.runtime.embedding.encoders.activations import ACTIVATIONS
from mlx_integrations.runtime.embedding.encoders.base import Encoder, renamed
from mlx_integrations.runtime.embedding.encoders.configuration import EncoderConfig
from mlx_integrations.runtime.embedding.encoders.layers import (
    Embeddings,
    activation,
    attend,
    head_size,
    in_slices,
    merge_heads,
    padding_bias,
    split_heads,
)
from mlx_integrations.runtime.embedding.encoders.rotary import Rotary, rotary_from, rotate

__all__ = ["NomicBertEncoder"]

_GATES = {"swiglu": "silu", "geglu": "gelu", "glu": "sigmoid"}
_GATED_MULTIPLE = 256  # Nomic's code rounds the width of a gated part up to it

# Names that transformers 5 uses inside; it saves Nomic's.
_LATER_NAMES = {
    "embeddings.LayerNorm": "emb_ln",
    "layers.*.self_attn.q_proj": "encoder.layers.*.attn.q_proj",
    "layers.*.self_attn.k_proj": "encoder.layers.*.attn.k_proj",
    "layers.*.self_attn.v_proj": "encoder.layers.*.attn.v_proj",
    "layers.*.self_attn.o_proj": "encoder.layers.*.attn.out_proj",
    "layers.*.mlp.up_proj": "encoder.layers.*.mlp.fc11",
    "layers.*.mlp.gate_proj": "encoder.layers.*.mlp.fc12",
    "layers.*.mlp.down_proj": "encoder.layers.*.mlp.fc2",
    "layers.*.post_attention_layernorm": "encoder.layers.*.norm1",
    "layers.*.post_mlp_layernorm": "encoder.layers.*.norm2",
}


class NomicBertEncoder(Encoder):
    """Nomic's BERT, without experts."""

    prefixes: ClassVar[tuple[str, ...]] = ("bert.", "nomic_bert.")
    names: ClassVar[Mapping[str, str]] = {
        "emb_ln": "embeddings.norm",
        "encoder.layers.*.attn.Wqkv": "layers.*.attn.Wqkv",
        "encoder.layers.*.attn.out_proj": "layers.*.attn.out_proj",
        "encoder.layers.*.norm1": "layers.*.norm1",
        "encoder.layers.*.mlp.fc1": "layers.*.mlp.fc1",
        "encoder.layers.*.mlp.fc11": "layers.*.mlp.fc11",
        "encoder.layers.*.mlp.fc12": "layers.*.mlp.fc12",
        "encoder.layers.*.mlp.fc2": "layers.*.mlp.fc2",
        "encoder.layers.*.norm2": "layers.*.norm2",
    }
    unused: ClassVar[tuple[str, ...]] = ("embeddings.position_ids", "pooler.", "cls.", "lm_head.")

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        _check_is_supported(config)
        self.hidden_size = config.size("hidden_size", "n_embd")
        heads = config.size("num_attention_heads", "n_head")
        size = head_size(config, self.hidden_size, heads)
        config.allow_only("head_dim", size)
        multiple = config.size("pad_vocab_size_multiple", default=1)
        self.vocabulary_size = -(-config.size("vocab_size") // multiple) * multiple
        types = config.index("type_vocab_size", default=2)
        # What is left out of config.json has the default of the code that wrote it.
        is_nomics = _is_nomics(config)
        eps = config.number("layer_norm_eps", "layer_norm_epsilon", default=1e-5 if is_nomics else 1e-12)
        has_bias = config.flag("qkv_proj_bias", is_nomics)
        self._rotary = _rotary(config, size)
        self.embeddings = Embeddings(self.vocabulary_size, self.hidden_size, eps, types=types)
        self.layers = [
            _Layer(self.hidden_size, _Attention(self.hidden_size, heads, has_bias), _feed_forward(config), eps)
            for _ in range(config.size("num_hidden_layers", "n_layer"))
        ]

    def stages(self, ids: Any, mask: Any) -> Iterator[Any]:
        """Yield the hidden states; see `Encoder.stages`."""
        hidden = self.embeddings(ids)
        yield hidden
        bias = padding_bias(mask, hidden.dtype)
        angles = self._rotary.angles(mask)
        for layer in self.layers:
            hidden = layer(hidden, bias, angles)
            yield hidden

    def sanitize(self, weights: Mapping[str, Any]) -> dict[str, Any]:
        """Give a checkpoint's tensors the names they have here; see `Encoder.sanitize`."""
        plain: dict[str, Any] = {}
        for name, value in weights.items():
            module, _, kind = self.without_prefix(name).rpartition(".")
            plain[f"{renamed(module, _LATER_NAMES)}.{kind}"] = value
        for name in [name for name in plain if ".attn.q_proj." in name]:
            parts = [name.replace("q_proj", part) for part in ("q_proj", "k_proj", "v_proj")]
            if all(part in plain for part in parts):
                plain[name.replace("q_proj", "Wqkv")] = mx.concatenate([plain.pop(part) for part in parts])
        return super().sanitize(plain)


def _is_nomics(config: EncoderConfig) -> bool:
    """Whether config.json was written by Nomic's own code."""
    return "n_embd" in config


def _check_is_supported(config: EncoderConfig) -> None:
    for key in ("prenorm", "parallel_block", "use_rms_norm", "causal", "norm_mlp", "rotary_head_dim"):
        config.allow_only(key, False)
    config.allow_only("rotary_emb_interleaved", False)
    config.allow_only("rotary_emb_scale_base")
    config.allow_only("num_heads_kv", config.values_of("n_head"))
    config.allow_only("num_experts", 0, 1)
    config.allow_only("moe_every_n_layers", 0, -1)
    config.allow_only("rotary_emb_fraction", 1)
    if _is_nomics(config) and "rotary_emb_fraction" not in config:
        raise config.unsupported("a model without rotary positions (no `rotary_emb_fraction`)")


def _rotary(config: EncoderConfig, size: int) -> Rotary:
    if "rope_parameters" in config or not _is_nomics(config):
        max_tokens = config.size("max_position_embeddings", default=2048)
        return rotary_from(config.part("rope_parameters"), size, theta=1000.0, max_tokens=max_tokens)
    theta = config.number("rotary_emb_base", default=10_000.0)
    if not config.values_of("rotary_scaling_factor"):
        return Rotary(size, theta)
    factor = config.number("rotary_scaling_factor", default=1.0)
    return Rotary(size, theta, factor=factor, trained_tokens=config.size("max_trained_positions", default=2048))


def _feed_forward(config: EncoderConfig) -> "_Gated | _Plain":
    hidden_size = config.size("hidden_size", "n_embd")
    if not _is_nomics(config):
        return _Gated(hidden_size, config.size("intermediate_size"), activation(config, "hidden_act", default="silu"))
    bias = config.flag("mlp_fc1_bias", True), config.flag("mlp_fc2_bias", True)
    kind = config.text("activation_function", default="gelu_new")
    if kind not in _GATES:
        inner_size = config.size("n_inner", default=4 * hidden_size)
        # Nomic's code takes the exact gelu for all of gelu's names.
        if not kind.startswith("gelu"):
            raise config.unsupported(f"`activation_function` = `{kind}`")
        return _Plain(hidden_size, inner_size, ACTIVATIONS["gelu"], *bias)
    inner_size = config.size("n_inner", default=8 * hidden_size // 3)
    inner_size = -(-inner_size // _GATED_MULTIPLE) * _GATED_MULTIPLE
    return _Gated(hidden_size, inner_size, ACTIVATIONS[_GATES[kind]], *bias)


class _Attention(nn.Module):
    def __init__(self, hidden_size: int, heads: int, has_bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.scale = (hidden_size // heads) ** -0.5
        self.Wqkv = nn.Linear(hidden_size, 3 * hidden_size, bias=has_bias)
        self.out_proj = nn.Linear(hidden_size, hidden_size, bias=has_bias)

    def __call__(self, x: Any, bias: Any, angles: tuple[Any, Any]) -> Any:
        queries, keys, values = (split_heads(part, self.heads) for part in mx.split(self.Wqkv(x), 3, axis=-1))
        found = attend(rotate(queries, *angles), rotate(keys, *angles), values, bias, scale=self.scale)
        return self.out_proj(merge_heads(found))


class _Gated(nn.Module):
    def __init__(
        self,
        hidden_size: int,
        inner_size: int,
        activate: Callable[[Any], Any],
        has_bias: bool = False,
        has_output_bias: bool = False,
    ) -> None:
        super().__init__()
        self.activate = activate
        self.fc11 = nn.Linear(hidden_size, inner_size, bias=has_bias)
        self.fc12 = nn.Linear(hidden_size, inner_size, bias=has_bias)
        self.fc2 = nn.Linear(inner_size, hidden_size, bias=has_output_bias)

    def __call__(self, x: Any) -> Any:
        return in_slices(self._feed_forward, x, 2 * self.fc11.weight.shape[0])

    def _feed_forward(self, x: Any) -> Any:
        return self.fc2(self.fc11(x) * self.activate(self.fc12(x)))


class _Plain(nn.Module):
    def __init__(
        self,
        hidden_size: int,
        inner_size: int,
        activate: Callable[[Any], Any],
        has_bias: bool,
        has_output_bias: bool,
    ) -> None:
        super().__init__()
        self.activate = activate
        self.fc1 = nn.Linear(hidden_size, inner_size, bias=has_bias)
        self.fc2 = nn.Linear(inner_size, hidden_size, bias=has_output_bias)

    def __call__(self, x: Any) -> Any:
        return in_slices(self._feed_forward, x, self.fc1.weight.shape[0])

    def _feed_forward(self, x: Any) -> Any:
        return self.fc2(self.activate(self.fc1(x)))


class _Layer(nn.Module):
    def __init__(self, hidden_size: int, attention: _Attention, mlp: _Gated | _Plain, norm_eps: float) -> None:
        super().__init__()
        self.attn = attention
        self.norm1 = nn.LayerNorm(hidden_size, eps=norm_eps)
        self.mlp = mlp
        self.norm2 = nn.LayerNorm(hidden_size, eps=norm_eps)

    def __call__(self, x: Any, bias: Any, angles: tuple[Any, Any]) -> Any:
        x = self.norm1(x + self.attn(x, bias, angles))
        return self.norm2(x + self.mlp(x))
