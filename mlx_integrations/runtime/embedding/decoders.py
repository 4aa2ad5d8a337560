"""Embedders made from models that write: mlx-lm's layers with the masks that an embedder needs. Worker thread only.

Rows are padded on the right, so that a causal layer needs no mask for padding: no token looks to its right.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mlx_integrations.errors import ModelLoadError
from mlx_integrations.runtime._mlx import mx, new_backbone
from mlx_integrations.runtime.embedding.encoders.base import Encoder
from mlx_integrations.runtime.embedding.encoders.configuration import EncoderConfig

__all__ = ["CLASS_DEFAULTS", "DECODER_TYPES", "Decoder", "common_arguments", "make_decoder", "rope_scaling"]

_ROPE_TYPES = ("default", "linear", "llama3")
# What transformers' configuration classes take where config.json lacks a key; `null` is something else.
_COMMON_DEFAULTS = {"rms_norm_eps": 1e-6, "rope_theta": 10_000.0}
CLASS_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "gemma3_text": {
        "head_dim": 256,
        "num_key_value_heads": 4,
        "query_pre_attn_scalar": 256,
        "rms_norm_eps": 1e-6,
        "sliding_window": 4096,
    },
    "llama": {**_COMMON_DEFAULTS, "max_position_embeddings": 2048},
    "mistral": {
        **_COMMON_DEFAULTS,
        "max_position_embeddings": 131_072,
        "num_key_value_heads": 8,
        "sliding_window": 4096,
    },
    "qwen2": {**_COMMON_DEFAULTS, "max_position_embeddings": 32_768, "sliding_window": 4096, "max_window_layers": 28},
    "qwen3": {
        **_COMMON_DEFAULTS,
        "head_dim": 128,
        "max_position_embeddings": 32_768,
        "sliding_window": 4096,
        "max_window_layers": 28,
    },
}
_GEMMA_THETA = {"full_attention": 1_000_000.0, "sliding_attention": 10_000.0}
_GEMMA_PATTERN = 6

Config = Mapping[str, Any]
"""config.json, as it stands, for what may be `null`."""
Reaches = list[int | None]
"""For each layer, how far away a token may be to be seen; `None` for any distance."""


def make_decoder(config: Mapping[str, Any], *, path: Path) -> "Decoder":
    """Build a decoder for embedding, weights not loaded.

    Args:
        config: config.json, as it stands; its `model_type` is one of `DECODER_TYPES`.
        path: Its folder, for errors.

    Raises:
        ModelLoadError: The configuration lacks something.
        UnsupportedArchitectureError: It asks for something that mlx-lm's code does not do.
    """
    return Decoder({**CLASS_DEFAULTS[str(config["model_type"])], **config}, path)


class Decoder(Encoder):
    """A decoder's layers, causal or looking both ways as the configuration says.

    Args:
        config: config.json, with what its keys are where it lacks them.
        path: Its folder, for errors.
    """

    unused = ("lm_head.",)

    def __init__(self, config: Mapping[str, Any], path: Path) -> None:
        super().__init__()
        fields = EncoderConfig(config, path)
        arguments, reaches = _FAMILIES[fields.model_type](fields, config)
        for key in ("num_attention_heads", "num_hidden_layers"):
            fields.size(key)  # mlx-lm would take defaults of its own
        self.hidden_size = fields.size("hidden_size")
        self.vocabulary_size = fields.size("vocab_size")
        self._looks_both_ways = _looks_both_ways(fields)
        self._reaches = reaches
        self._scale = self.hidden_size**0.5 if fields.model_type == "gemma3_text" else None
        try:
            backbone = new_backbone({**config, **arguments})
        except (AssertionError, AttributeError, KeyError, TypeError, ValueError, ZeroDivisionError) as error:
            raise ModelLoadError(
                f"`{fields.path / 'config.json'}` does not describe a `{fields.model_type}` model: {error}.",
                model_path=str(fields.path),
                hint="Download the file again.",
            ) from error
        self.embed_tokens = backbone.embed_tokens
        self.layers = backbone.layers
        self.norm = backbone.norm

    def stages(self, ids: Any, mask: Any) -> Iterator[Any]:
        """Yield the hidden states; see `Encoder.stages`."""
        hidden = self.embed_tokens(ids)
        if self._scale is not None:
            hidden = hidden * mx.array(self._scale, hidden.dtype)
        yield hidden
        masks = {reach: self._mask(mask, reach) for reach in set(self._reaches)}
        last = len(self.layers) - 1
        for index, (layer, reach) in enumerate(zip(self.layers, self._reaches, strict=True)):
            hidden = layer(hidden, masks[reach], None)
            yield self.norm(hidden) if index == last else hidden

    def _mask(self, mask: Any, reach: int | None) -> Any:
        """What each token may see, in the form that MLX's attention takes.

        Every token sees at least itself, or in an empty row its neighbours: softmax over nothing gives NaN, which would
        spread.
        """
        tokens = mask.shape[1]
        keys = mask[:, None, None, :]
        if reach is None or tokens <= reach + 1:
            if not self._looks_both_ways:
                return "causal" if tokens > 1 else None
            return keys | ~mask.any(axis=1)[:, None, None, None]
        positions = mx.arange(tokens)
        distance = positions[:, None] - positions[None, :]
        if not self._looks_both_ways:
            return ((distance >= 0) & (distance <= reach))[None, None]
        return (keys & (mx.abs(distance) <= reach)) | (distance == 0)


def _looks_both_ways(fields: EncoderConfig) -> bool:
    if fields.model_type == "gemma3_text" and fields.flag("use_bidirectional_attention", False):
        return True
    return not fields.flag("is_causal", True)


def _llama(fields: EncoderConfig, _: Config) -> tuple[dict[str, Any], Reaches]:
    arguments = common_arguments(fields)
    return {**arguments, "layer_types": None}, [None] * fields.size("num_hidden_layers")


def _mistral(fields: EncoderConfig, config: Config) -> tuple[dict[str, Any], Reaches]:
    arguments, reaches = _llama(fields, config)
    window = None if config.get("sliding_window") is None else fields.size("sliding_window")
    return arguments, [_reach(fields, window)] * len(reaches)


def _qwen2(fields: EncoderConfig, config: Config) -> tuple[dict[str, Any], Reaches]:
    head_size = fields.size("hidden_size") // fields.size("num_attention_heads")
    fields.allow_only("head_dim", head_size)
    return common_arguments(fields), _qwen_reaches(fields, config)


def _qwen3(fields: EncoderConfig, config: Config) -> tuple[dict[str, Any], Reaches]:
    fields.allow_only("attention_bias", False)
    return common_arguments(fields), _qwen_reaches(fields, config)


def _qwen_reaches(fields: EncoderConfig, config: Config) -> Reaches:
    layers = fields.size("num_hidden_layers")
    if not fields.flag("use_sliding_window", False):
        return [None] * layers
    reach = _reach(fields, fields.size("sliding_window"))
    types = _layer_types(fields, config)
    if types is None:
        full = fields.index("max_window_layers", 0)
        return [None if index < full else reach for index in range(layers)]
    return [reach if kind == "sliding_attention" else None for kind in types]


def _gemma3(fields: EncoderConfig, config: Config) -> tuple[dict[str, Any], Reaches]:
    fields.allow_only("hidden_activation", "gelu_pytorch_tanh")
    fields.allow_only("attention_bias", False)
    fields.allow_only("attn_logit_softcapping")
    layers = fields.size("num_hidden_layers")
    pattern = _gemma_pattern(fields, config, layers)
    window = fields.size("sliding_window")
    # transformers halves the window for looking both ways: half of it to either side, itself not counted
    # (transformers/models/gemma3/configuration_gemma3.py).
    both_ways = fields.flag("use_bidirectional_attention", False)
    reach = window // 2 if both_ways else _reach(fields, window)
    nested = fields.part("rope_parameters")
    thetas = {}
    for kind, key in (("full_attention", "rope_theta"), ("sliding_attention", "rope_local_base_freq")):
        own = fields.number(key, default=_GEMMA_THETA[kind])
        thetas[kind] = nested.part(kind).number("rope_theta", default=own)
    rope_scaling(nested.part("sliding_attention"), None, allowed=("default",))
    arguments = {
        "rope_theta": thetas["full_attention"],
        "rope_local_base_freq": thetas["sliding_attention"],
        "rope_scaling": rope_scaling(nested.part("full_attention"), fields.part("rope_scaling")),
        "rope_parameters": None,
        "sliding_window": window,
        "sliding_window_pattern": pattern,
    }
    return arguments, [None if (index + 1) % pattern == 0 else reach for index in range(layers)]


def _gemma_pattern(fields: EncoderConfig, config: Config, layers: int) -> int:
    """Every how many layers one sees everything; above the number of layers if none does."""
    types = _layer_types(fields, config)
    if types is None:
        return fields.size("sliding_window_pattern", "_sliding_window_pattern", default=_GEMMA_PATTERN)
    pattern = types.index("full_attention") + 1 if "full_attention" in types else layers + 1
    if any((kind == "full_attention") != ((index + 1) % pattern == 0) for index, kind in enumerate(types)):
        raise fields.unsupported(f"an irregular pattern of `layer_types`, {types},")
    return pattern


def _layer_types(fields: EncoderConfig, config: Config) -> list[str] | None:
    types = config.get("layer_types")
    if types is None:
        return None
    known = ("full_attention", "sliding_attention")
    layers = fields.size("num_hidden_layers")
    if not isinstance(types, list) or len(types) != layers or any(kind not in known for kind in types):
        raise fields.unsupported(f"`layer_types` = `{types}` with {layers} layers")
    return types


def common_arguments(fields: EncoderConfig) -> dict[str, Any]:
    """What mlx-lm's code for Llama and its kin takes otherwise, or not at all."""
    fields.allow_only("hidden_act", "silu", "swish")
    fields.allow_only("partial_rotary_factor", 1, 1.0)
    rope = fields.part("rope_parameters")
    return {
        "rope_theta": rope.number("rope_theta", default=fields.number("rope_theta", default=0.0)),
        "rope_scaling": rope_scaling(rope, fields.part("rope_scaling")),
        "rope_parameters": None,
        # The head is not used; tied, it is not even made.
        "tie_word_embeddings": True,
    }


def rope_scaling(
    rope: EncoderConfig, older: EncoderConfig | None, *, allowed: tuple[str, ...] = _ROPE_TYPES
) -> dict[str, Any] | None:
    """How positions are scaled, by transformers 5 (`rope_parameters`) or by its versions before (`rope_scaling`)."""
    source = rope if older is None or rope.text("rope_type", "type", default="") else older
    kind = source.text("rope_type", "type", default="default")
    if kind not in allowed:
        raise source.unsupported(f"`rope_type` = `{kind}`")
    source.allow_only("partial_rotary_factor", 1, 1.0)
    if kind == "default":
        return None
    scaling: dict[str, Any] = {"rope_type": kind, "factor": source.number("factor", default=1.0)}
    if kind == "llama3":
        scaling |= {
            "low_freq_factor": source.number("low_freq_factor", default=1.0),
            "high_freq_factor": source.number("high_freq_factor", default=4.0),
            "original_max_position_embeddings": source.size("original_max_position_embeddings"),
        }
    return scaling


def _reach(fields: EncoderConfig, window: int | None) -> int | None:
    """Distance at which a sliding window ends; one that looks both ways counts its size to either side."""
    if window is None:
        return None
    return window if _looks_both_ways(fields) else window - 1


_FAMILIES: Mapping[str, Callable[[EncoderConfig, Config], tuple[dict[str, Any], Reaches]]] = {
    "gemma3_text": _gemma3,
    "llama": _llama,
    "mistral": _mistral,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
}

DECODER_TYPES = frozenset(_FAMILIES)
"""The values of `model_type` that mlx-lm's layers are used for."""
