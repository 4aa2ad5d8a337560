"""Which caches the layers of each architecture have, read from config.json as mlx-lm 0.32.2 reads it.

An architecture is here only if a test builds it with mlx-lm and finds the same bytes; any other one is unknown. Where
mlx-lm keeps something else than a paper says, mlx-lm counts: it expands the latents of DeepSeek V2 and keeps the rest.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from mlx_integrations.memory_estimate.caches import CacheLayer, CacheLayout

__all__ = ["CONFIG_KEYS", "KNOWN_MODEL_TYPES", "cache_layout", "text_config"]

_MAX_LAYERS = 1_000  # no model comes near; a configuration that says more is damaged or hostile
_MAX_VALUE = 10**9


class _UnknownError(Exception):
    """The configuration does not say what is needed."""


class _Config:
    """A configuration whose values are checked where they are read."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def whole(self, name: str, *alternatives: str, default: int | None = None) -> int:
        """A whole number of 0 or more, under the first of these names that is there."""
        for candidate in (name, *alternatives):
            value = self._values.get(candidate)
            if value is None:
                continue
            if type(value) is not int or not 0 <= value <= _MAX_VALUE:
                raise _UnknownError(candidate)
            return value
        if default is None:
            raise _UnknownError(name)
        return default

    def listed(self, name: str) -> Sequence[Any] | None:
        value = self._values.get(name)
        if value is None:
            return None
        if not isinstance(value, list | tuple) or len(value) > _MAX_LAYERS:
            raise _UnknownError(name)
        return value

    def text(self, name: str) -> str | None:
        value = self._values.get(name)
        if value is not None and (not isinstance(value, str) or len(value) > _MAX_LAYERS):
            raise _UnknownError(name)
        return value

    @property
    def layers(self) -> int:
        count = self.whole("num_hidden_layers", "num_layers")
        if count > _MAX_LAYERS:
            raise _UnknownError("num_hidden_layers")
        return count

    @property
    def heads(self) -> int:
        heads = self.whole("num_attention_heads")
        if heads == 0:
            raise _UnknownError("num_attention_heads")
        return heads

    @property
    def shared_head_dim(self) -> int:
        return self.whole("hidden_size") // self.heads


_Layers = Iterator[CacheLayer]


def _full(elements: int) -> CacheLayer:
    return CacheLayer(rule="full", token_elements=elements)


def _sliding(elements: int, window: int) -> CacheLayer:
    return CacheLayer(rule="sliding", token_elements=elements, window_tokens=window)


def _plain(config: _Config) -> _Layers:
    """Attention in every layer, heads as wide as `head_dim` says, or else as the hidden size allows."""
    width = config.whole("head_dim", default=config.shared_head_dim) or config.shared_head_dim
    yield from _attention(config, width)


def _plain_shared(config: _Config) -> _Layers:
    """The same for files of mlx-lm that do not read `head_dim`."""
    yield from _attention(config, config.shared_head_dim)


def _exaone4(config: _Config) -> _Layers:
    """A pattern such as `LLLG` tells local layers from global ones."""
    elements = 2 * config.whole("num_key_value_heads") * config.whole("head_dim")
    pattern = config.text("sliding_window_pattern") or "G"
    for index in range(config.layers):
        is_local = pattern[index % len(pattern)] == "L"
        yield _sliding(elements, config.whole("sliding_window")) if is_local else _full(elements)


def _attention(config: _Config, width: int) -> _Layers:
    heads = config.whole("num_key_value_heads", default=config.heads)
    for _ in range(config.layers):
        yield _full(2 * heads * width)


def _layer_types(config: _Config) -> _Layers:
    """`layer_types` tells sliding layers from full ones; without it all are full."""
    width = config.whole("head_dim", default=config.shared_head_dim) or config.shared_head_dim
    elements = 2 * config.whole("num_key_value_heads", default=config.heads) * width
    for kind in config.listed("layer_types") or ["full_attention"] * config.layers:
        is_sliding = kind == "sliding_attention"
        yield _sliding(elements, config.whole("sliding_window")) if is_sliding else _full(elements)


def _gpt_oss(config: _Config) -> _Layers:
    elements = 2 * config.whole("num_key_value_heads", default=8) * config.whole("head_dim", default=64)
    pattern = ("sliding_attention", "full_attention")
    for kind in config.listed("layer_types") or [pattern[index % 2] for index in range(config.layers)]:
        window = config.whole("sliding_window", default=128)
        yield _full(elements) if kind == "full_attention" else _sliding(elements, window)


def _olmo3(config: _Config) -> _Layers:
    width = config.whole("head_dim", default=config.shared_head_dim)
    elements = 2 * config.whole("num_key_value_heads", default=config.heads) * width
    kinds = config.listed("layer_types")
    for index in range(config.layers):
        is_full = (index + 1) % 4 == 0 if kinds is None else kinds[index] == "full_attention"
        yield _full(elements) if is_full else _sliding(elements, config.whole("sliding_window"))


def _periodic(config: _Config, *, heads: int, width: int, window: int | None, pattern: int | None) -> _Layers:
    """Every `sliding_window_pattern`-th layer is full, the others slide; the defaults are those of mlx-lm."""
    elements = 2 * config.whole("num_key_value_heads", default=heads) * config.whole("head_dim", default=width)
    period = config.whole("sliding_window_pattern", default=pattern) or 1
    for index in range(config.layers):
        is_full = index % period == period - 1
        yield _full(elements) if is_full else _sliding(elements, config.whole("sliding_window", default=window))


def _gemma3(config: _Config) -> _Layers:
    yield from _periodic(config, heads=1, width=256, window=512, pattern=6)


def _cohere2(config: _Config) -> _Layers:
    yield from _periodic(config, heads=8, width=128, window=4096, pattern=4)


def _gemma3n(config: _Config) -> _Layers:
    """The last layers use the caches of earlier ones."""
    kinds = config.listed("layer_types")
    if kinds is None:
        raise _UnknownError("layer_types")
    elements = 2 * config.whole("num_key_value_heads") * config.whole("head_dim")
    for kind in kinds[: config.layers - config.whole("num_kv_shared_layers")]:
        is_full = kind == "full_attention"
        yield _full(elements) if is_full else _sliding(elements, config.whole("sliding_window"))


def _latent(config: _Config) -> _Layers:
    """One compressed vector and one rotated part for all heads."""
    for _ in range(config.layers):
        yield _full(config.whole("kv_lora_rank") + config.whole("qk_rope_head_dim"))


def _expanded_latent(config: _Config) -> _Layers:
    """Latents that mlx-lm expands to the keys and values of every head before it keeps them."""
    key = config.whole("qk_nope_head_dim") + config.whole("qk_rope_head_dim")
    value = config.whole("v_head_dim", default=config.shared_head_dim)
    for _ in range(config.layers):
        yield _full(config.heads * (key + value))


def _minicpm3(config: _Config) -> _Layers:
    key = config.whole("qk_nope_head_dim") + config.whole("qk_rope_head_dim")
    for _ in range(config.layers):
        yield _full(config.heads * (key + config.shared_head_dim))


def _llama4(config: _Config) -> _Layers:
    elements = 2 * config.whole("num_key_value_heads") * config.whole("head_dim")
    chunk = config.whole("attention_chunk_size")
    for index in range(config.layers):
        is_full = (index + 1) % 4 == 0
        yield (_full(elements) if is_full else CacheLayer(rule="chunked", token_elements=elements, window_tokens=chunk))


def _delta_net(config: _Config) -> _Layers:
    """Gated delta nets, and full attention in every `full_attention_interval`-th layer."""
    keys = config.whole("linear_num_key_heads") * config.whole("linear_key_head_dim")
    values = config.whole("linear_num_value_heads") * config.whole("linear_value_head_dim")
    linear = CacheLayer(
        rule="state",
        state_elements=(config.whole("linear_conv_kernel_dim") - 1) * (2 * keys + values),
        float32_elements=values * config.whole("linear_key_head_dim"),
    )
    width = config.whole("head_dim", default=config.shared_head_dim)
    full = _full(2 * config.whole("num_key_value_heads") * width)
    interval = config.whole("full_attention_interval", default=4) or 1
    for index in range(config.layers):
        yield full if (index + 1) % interval == 0 else linear


def _mamba(config: _Config) -> _Layers:
    inner, state = config.whole("intermediate_size", "d_inner"), config.whole("state_size", "d_state")
    kernel = config.whole("conv_kernel", "d_conv")
    layers = config.whole("num_hidden_layers", "n_layer", "n_layers")
    if layers > _MAX_LAYERS:
        raise _UnknownError("num_hidden_layers")
    for _ in range(layers):
        yield CacheLayer(rule="state", state_elements=(kernel - 1) * inner + inner * state)


def _state_space(*, heads: int, width: int, state: int, groups: int, kernel: int) -> CacheLayer:
    """The state of a Mamba 2 layer: what its convolution still needs, and what it remembers."""
    convolved = heads * width + 2 * groups * state
    return CacheLayer(rule="state", state_elements=(kernel - 1) * convolved, float32_elements=heads * width * state)


def _mamba2(config: _Config) -> _Layers:
    layer = _state_space(
        heads=config.whole("num_heads"),
        width=config.whole("head_dim"),
        state=config.whole("ssm_state_size", "state_size"),
        groups=config.whole("n_groups"),
        kernel=config.whole("conv_kernel"),
    )
    for _ in range(config.layers):
        yield layer


def _mamba2_of(config: _Config) -> CacheLayer:
    """A Mamba 2 layer of a hybrid whose keys begin with `mamba_`."""
    return _state_space(
        heads=config.whole("mamba_n_heads"),
        width=config.whole("mamba_d_head"),
        state=config.whole("mamba_d_state"),
        groups=config.whole("mamba_n_groups"),
        kernel=config.whole("mamba_d_conv"),
    )


def _falcon_h1(config: _Config) -> _Layers:
    """Attention and state space side by side in every layer."""
    elements = 2 * config.whole("num_key_value_heads") * config.whole("head_dim", default=64)
    for _ in range(config.layers):
        yield _full(elements)
        yield _mamba2_of(config)


def _granite_hybrid(config: _Config) -> _Layers:
    attention = _full(2 * config.whole("num_key_value_heads") * config.shared_head_dim)
    for kind in config.listed("layer_types") or ():
        if kind == "attention":
            yield attention
        elif kind == "mamba":
            yield _mamba2_of(config)
        else:
            raise _UnknownError("layer_types")


def _nemotron_h(config: _Config) -> _Layers:
    pattern = config.text("hybrid_override_pattern")
    if pattern is None:
        kinds = config.listed("layers_block_type") or config.listed("layer_types") or ()
        pattern = "".join({"mamba": "M", "attention": "*"}.get(str(kind), "-") for kind in kinds)
    if not pattern:
        raise _UnknownError("hybrid_override_pattern")
    width = config.whole("head_dim", default=config.shared_head_dim)
    attention = _full(2 * config.whole("num_key_value_heads") * width)
    space = _state_space(
        heads=config.whole("mamba_num_heads"),
        width=config.whole("mamba_head_dim"),
        state=config.whole("ssm_state_size"),
        groups=config.whole("n_groups"),
        kernel=config.whole("conv_kernel"),
    )
    for kind in pattern:
        if kind in ("M", "*"):
            yield attention if kind == "*" else space


def _jamba(config: _Config) -> _Layers:
    inner = config.whole("mamba_expand") * config.whole("hidden_size")
    kernel, state = config.whole("mamba_d_conv"), config.whole("mamba_d_state")
    mamba = CacheLayer(rule="state", state_elements=(kernel - 1) * inner + inner * state)
    attention = _full(2 * config.whole("num_key_value_heads") * config.shared_head_dim)
    kinds = config.listed("layers_block_type")
    period, offset = config.whole("attn_layer_period", default=1) or 1, config.whole("attn_layer_offset", default=0)
    for index in range(config.layers):
        is_attention = index % period == offset if kinds is None else kinds[index] == "attention"
        yield attention if is_attention else mamba


def _lfm2(config: _Config) -> _Layers:
    full = _full(2 * config.whole("num_key_value_heads", default=config.heads) * config.shared_head_dim)
    convolution = CacheLayer(
        rule="state", state_elements=(config.whole("conv_L_cache") - 1) * config.whole("hidden_size")
    )
    attending = config.listed("full_attn_idxs")
    kinds = config.listed("layer_types")
    if attending is None and kinds is None:
        raise _UnknownError("layer_types")
    if attending is None:
        attending = [index for index, kind in enumerate(kinds or ()) if kind == "full_attention"]
    for index in range(config.layers):
        yield full if index in attending else convolution


def _recurrent_gemma(config: _Config) -> _Layers:
    kinds = config.listed("block_types") or config.listed("_block_types")
    if not kinds:
        raise _UnknownError("block_types")
    lru = config.whole("lru_width", default=0) or config.whole("hidden_size")
    recurrent = CacheLayer(rule="state", state_elements=config.whole("conv1d_width") * lru)
    attention = _sliding(2 * config.shared_head_dim, config.whole("attention_window_size"))
    for index in range(config.layers):
        yield recurrent if kinds[index % len(kinds)] == "recurrent" else attention


_READERS: Final[dict[str, Callable[[_Config], _Layers]]] = {
    **dict.fromkeys(
        "dots1 ernie4_5 ernie4_5_moe exaone gemma gemma2 glm glm4 glm4_moe hunyuan_v1_dense minimax nemotron "
        "olmo2 olmoe qwen3 qwen3_moe seed_oss telechat3".split(),
        _plain,
    ),
    **dict.fromkeys(
        "apertus cohere granite granitemoe internlm2 internlm3 mimo mixtral phi phi3 phimoe qwen2 qwen2_moe stablelm "
        "starcoder2".split(),
        _plain_shared,
    ),
    **dict.fromkeys("llama ministral3 smollm3".split(), _layer_types),
    **dict.fromkeys("deepseek_v3 glm4_moe_lite mistral4".split(), _latent),
    **dict.fromkeys("deepseek_v2 youtu_llm".split(), _expanded_latent),
    **dict.fromkeys("lfm2 lfm2_moe".split(), _lfm2),
    **dict.fromkeys("qwen3_next qwen3_5 qwen3_5_moe".split(), _delta_net),
    "cohere2": _cohere2,
    "exaone4": _exaone4,
    "falcon_h1": _falcon_h1,
    "gemma3_text": _gemma3,
    "gemma3n": _gemma3n,
    "gpt_oss": _gpt_oss,
    "granitemoehybrid": _granite_hybrid,
    "jamba": _jamba,
    "llama4": _llama4,
    "mamba": _mamba,
    "mamba2": _mamba2,
    "minicpm3": _minicpm3,
    "nemotron_h": _nemotron_h,
    "olmo3": _olmo3,
    "recurrent_gemma": _recurrent_gemma,
}

# Models that mlx-lm runs with the file of another one, and those whose text part is nested under `text_config`.
_SAME_AS: Final = {
    "mistral": "llama",
    "iquestcoder": "llama",
    "xverse": "llama",
    "falcon_mamba": "mamba",
    "joyai_llm_flash": "deepseek_v3",
    "kimi_k2": "deepseek_v3",
    "minimax_m2": "minimax",
    "gemma3": "gemma3_text",
    "qwen2_vl": "qwen2",
    "qwen2_5_vl": "qwen2",
    "qwen3_vl": "qwen3",
    "qwen3_vl_moe": "qwen3_moe",
    "qwen3_5_text": "qwen3_5",
    "gemma3n_text": "gemma3n",
    "llama4_text": "llama4",
}

KNOWN_MODEL_TYPES: Final = frozenset(_READERS) | frozenset(_SAME_AS)
"""Every `model_type` whose caches are known."""

CONFIG_KEYS: Final = frozenset(
    (
        "_block_types attention_chunk_size attention_window_size attn_layer_offset attn_layer_period block_types "
        "conv1d_width conv_L_cache conv_kernel d_conv d_inner d_state full_attention_interval full_attn_idxs head_dim "
        "hidden_size hybrid_override_pattern intermediate_size kv_lora_rank layer_types layers_block_type "
        "linear_conv_kernel_dim linear_key_head_dim linear_num_key_heads linear_num_value_heads linear_value_head_dim "
        "lru_width mamba_d_conv mamba_d_head mamba_d_state mamba_expand mamba_head_dim mamba_n_groups mamba_n_heads "
        "mamba_num_heads model_type moe_intermediate_size n_groups n_layer n_layers num_attention_heads "
        "num_experts_per_tok num_heads num_hidden_layers num_key_value_heads num_kv_shared_layers num_layers "
        "qk_nope_head_dim qk_rope_head_dim sliding_window sliding_window_pattern ssm_state_size state_size "
        "v_head_dim vocab_size"
    ).split()
)
"""The keys of config.json that estimates read; a catalogue needs no others."""


def text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of a configuration that describes the language model: `text_config`, if it has one."""
    nested = config.get("text_config")
    if not isinstance(nested, Mapping):
        return config
    return {"model_type": config.get("model_type"), **nested}


def cache_layout(config: Mapping[str, Any]) -> CacheLayout | None:
    """The caches of the model that a config.json describes; `None` if its architecture is not known, or incomplete."""
    inner = text_config(config)
    for candidate in (inner.get("model_type"), config.get("model_type")):
        reader = _READERS.get(_SAME_AS.get(candidate, candidate)) if isinstance(candidate, str) else None
        if reader is not None:
            break
    else:
        return None
    try:
        return CacheLayout.of(reader(_Config(inner)))
    except (_UnknownError, IndexError):
        return None
