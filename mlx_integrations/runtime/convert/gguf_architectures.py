"""What a GGUF file calls an architecture's settings and tensors, and what Hugging Face calls them.

The two directions of llama.cpp's converter (https://github.com/ggml-org/llama.cpp/blob/master/convert_hf_to_gguf.py)
are undone here: rows of queries and keys that were interleaved for its way to rotate positions, and norms of Gemma that
had 1 added. Names: https://github.com/ggml-org/llama.cpp/blob/master/gguf-py/gguf/constants.py.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mlx_integrations.errors import ConversionError, UnsupportedArchitectureError
from mlx_integrations.runtime.convert.gguf_blocks import BLOCKS, unpacked_rows
from mlx_integrations.runtime.convert.gguf_file import GGUFFile, GGUFTensor
from mlx_integrations.runtime.convert.gguf_rope import rope_settings
from mlx_integrations.runtime.convert.gguf_values import GGUFValues, listed
from mlx_integrations.runtime.convert.tensors import Bits, Tensor, float32_bits

__all__ = ["ARCHITECTURES", "gguf_config", "gguf_tensors", "natural_dtype"]

_BLOCK = re.compile(r"blk\.(\d+)\.(.+)")
_TOP: Final = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_LAYER: Final = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_GEMMA_NORMS: Final = {
    "ffn_norm": "pre_feedforward_layernorm",
    "post_attention_norm": "post_attention_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
_FUSED: Final = {"attn_qkv": "self_attn.qkv_proj", "ffn_up": "mlp.gate_up_proj"}
# Tensors that say how positions are rotated; they become settings.
_ROPE_TENSORS: Final = ("rope_freqs", "rope_factors_long", "rope_factors_short")
# Layers of the largest Gemma models, which scale attention by their width, not by the size of a head
# (llama.cpp, src/llama-model.cpp: `LLM_TYPE_27B`).
_LARGEST_GEMMA: Final = {"gemma2": 46, "gemma3": 62}
_GEMMA3_PATTERN: Final = 6
_DTYPES: Final = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Family:
    """One architecture.

    Attributes:
        model_type: Hugging Face's name.
        class_name: Its class in transformers.
        settings: Makes the settings that only it has.
        names: Tensors of a layer that are called otherwise than in most.
        is_interleaved: Whether rows of queries and keys were interleaved.
        norm_offset: What was added to the weights of norms.
        wide: The type that holds its numbers without overflow when it computes.
    """

    model_type: str
    class_name: str
    settings: Callable[[GGUFValues], dict[str, Any]]
    names: Mapping[str, str]
    is_interleaved: bool = False
    norm_offset: float = 0.0
    wide: str = "F16"


def gguf_config(file: GGUFFile) -> dict[str, Any]:
    """The config.json of a file's model.

    Raises:
        UnsupportedArchitectureError: Its architecture is not one of `ARCHITECTURES`.
        ConversionError: It lacks something, or asks for something that is not known.
    """
    family, values = _family(file)
    heads, hidden = values.size("attention.head_count"), values.size("embedding_length")
    kv_heads = values.size("attention.head_count_kv", default=heads)
    end_ids = values.end_ids()
    return {
        "architectures": [family.class_name],
        "model_type": family.model_type,
        "hidden_size": hidden,
        "num_hidden_layers": values.size("block_count"),
        "intermediate_size": values.size("feed_forward_length"),
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": values.size("attention.key_length", default=hidden // heads),
        "rms_norm_eps": values.number("attention.layer_norm_rms_epsilon"),
        "vocab_size": _tensor(file, "token_embd.weight").shape[0],
        "max_position_embeddings": values.size("context_length"),
        "tie_word_embeddings": "output.weight" not in file.tensors,
        "torch_dtype": _DTYPES[natural_dtype(file)],
        "bos_token_id": values.token_id("bos"),
        "eos_token_id": end_ids[0] if len(end_ids) == 1 else list(end_ids),
        **rope_settings(file, values),
        **family.settings(values),
    }


def gguf_tensors(file: GGUFFile, dtype: str) -> list[Tensor]:
    """A file's tensors under Hugging Face's names, unpacked when they are read.

    Args:
        file: The model.
        dtype: What their numbers become: `F32`, `F16` or `BF16`.
    """
    family, values = _family(file)
    heads = values.size("attention.head_count")
    kv_heads = values.size("attention.head_count_kv", default=heads)
    rotated = {"attn_q": heads, "attn_k": kv_heads} if family.is_interleaved else {}
    found: list[Tensor] = []
    for tensor in file.tensors.values():
        kind, _, suffix = tensor.name.rpartition(".")
        block = _BLOCK.fullmatch(kind)
        short = block[2] if block else kind
        if short in _ROPE_TENSORS:
            continue
        name = _name(block, short, suffix, family, file)
        order = _ungrouped(tensor.rows, tensor.shape, rotated[short], file) if short in rotated else None
        added = family.norm_offset if short.endswith("norm") and suffix == "weight" else 0.0
        chunks = partial(_chunks, tensor, dtype, order, added)
        found.append(Tensor(name=name, dtype=dtype, shape=tensor.shape, chunks=chunks))
    return found


def natural_dtype(file: GGUFFile) -> str:
    """The type that a file's numbers become unless somebody says otherwise: that of its matrices, if they have one.

    Packed numbers become float16, which is what their scales are; bfloat16 for models that overflow it.
    """
    kinds = {BLOCKS[tensor.type_id].dtype for tensor in file.tensors.values() if len(tensor.shape) > 1}
    if len(kinds) == 1 and (only := kinds.pop()) is not None:
        return only
    return _family(file)[0].wide


def _family(file: GGUFFile) -> tuple[_Family, GGUFValues]:
    name = str(file.metadata.get("general.architecture", ""))
    family = ARCHITECTURES.get(name)
    experts = file.metadata.get(f"{name}.expert_count", 0)
    if family is None or experts:
        what = f"a `{name}` with {experts} experts" if experts else f"a `{name}`"
        raise UnsupportedArchitectureError(
            f"`{file.path}` is {what}; GGUF files of that architecture are not converted.",
            model_path=str(file.path),
            model_type=name,
            hint="Pull the model in MLX's format instead. GGUF files of these are converted: "
            + ", ".join(f"`{known}`" for known in ARCHITECTURES)
            + ".",
        )
    return family, GGUFValues(file, name)


def _name(block: re.Match[str] | None, short: str, suffix: str, family: _Family, file: GGUFFile) -> str:
    names = {**_LAYER, **family.names} if block else _TOP
    if short not in names or suffix not in ("weight", "bias"):
        full = f"blk.{block[1]}.{short}.{suffix}" if block else f"{short}.{suffix}"
        raise ConversionError(
            f"`{file.path}` has a tensor `{full}`, which a `{family.model_type}` does not have.",
            path=str(file.path),
            hint="Pull the model in MLX's format instead.",
        )
    prefix = f"model.layers.{block[1]}." if block else ""
    return f"{prefix}{names[short]}.{suffix}"


def _ungrouped(rows: NDArray[np.uint8], shape: tuple[int, ...], heads: int, file: GGUFFile) -> NDArray[np.intp]:
    """Where each row lies whose neighbours were interleaved: of each head, first and second half took turns.

    A bias is one row, and its numbers are what is interleaved.
    """
    count = shape[0]
    if count % (2 * heads):
        raise ConversionError(
            f"`{file.path}` has {count} rows of queries or keys for {heads} heads.",
            path=str(file.path),
            hint="Download the file again.",
        )
    lies: NDArray[np.intp] = np.arange(count, dtype=np.intp).reshape(heads, count // heads // 2, 2)
    return lies.swapaxes(1, 2).reshape(-1)


def _chunks(tensor: GGUFTensor, dtype: str, order: NDArray[np.intp] | None, added: float) -> Iterator[Bits]:
    of_numbers = order if len(tensor.shape) == 1 else None
    for chunk in unpacked_rows(tensor.rows, tensor.type_id, order if of_numbers is None else None):
        values = chunk if of_numbers is None else chunk[:, of_numbers]
        yield float32_bits(values - np.float32(added) if added else values, dtype)


def _tensor(file: GGUFFile, name: str) -> GGUFTensor:
    if name not in file.tensors:
        raise ConversionError(
            f"`{file.path}` lacks the tensor `{name}`.", path=str(file.path), hint="Download the file again."
        )
    return file.tensors[name]


def _llama(values: GGUFValues) -> dict[str, Any]:
    tensors = values.file.tensors
    return {
        "hidden_act": "silu",
        "attention_bias": "blk.0.attn_q.bias" in tensors,
        "mlp_bias": "blk.0.ffn_gate.bias" in tensors,
    }


def _qwen(values: GGUFValues) -> dict[str, Any]:
    return {"hidden_act": "silu", "use_sliding_window": False}


def _phi3(values: GGUFValues) -> dict[str, Any]:
    window = values.size("attention.sliding_window", default=0)
    return {"hidden_act": "silu", "sliding_window": window or None}


def _gemma(values: GGUFValues) -> dict[str, Any]:
    return {"hidden_activation": "gelu_pytorch_tanh", "hidden_act": "gelu_pytorch_tanh"}


def _gemma2(values: GGUFValues) -> dict[str, Any]:
    return {
        **_gemma(values),
        "query_pre_attn_scalar": _query_scale(values),
        "attn_logit_softcapping": values.number("attn_logit_softcapping", default=50.0),
        "final_logit_softcapping": values.number("final_logit_softcapping", default=30.0),
        "sliding_window": values.size("attention.sliding_window", default=4096),
    }


def _gemma3(values: GGUFValues) -> dict[str, Any]:
    return {
        **_gemma(values),
        "query_pre_attn_scalar": _query_scale(values),
        "sliding_window": values.size("attention.sliding_window"),
        "sliding_window_pattern": _pattern(values),
        "rope_local_base_freq": values.number("rope.freq_base_swa", default=10_000.0),
    }


def _pattern(values: GGUFValues) -> int:
    """Every how many layers one sees everything; newer files say which layers do not."""
    found = values.get("attention.sliding_window_pattern")
    if found is None or isinstance(found, int):
        return found or _GEMMA3_PATTERN
    slides = [bool(one) for one in listed(found)]
    pattern = slides.index(False) + 1 if False in slides else len(slides) + 1
    if any(one == ((index + 1) % pattern == 0) for index, one in enumerate(slides)):
        raise values.error("attention.sliding_window_pattern", slides)
    return pattern


def _query_scale(values: GGUFValues) -> int:
    heads, hidden = values.size("attention.head_count"), values.size("embedding_length")
    if values.size("block_count") == _LARGEST_GEMMA[values.architecture]:
        return hidden // heads
    return values.size("attention.key_length", default=hidden // heads)


ARCHITECTURES: Final[Mapping[str, _Family]] = {
    "llama": _Family(model_type="llama", class_name="LlamaForCausalLM", settings=_llama, names={}, is_interleaved=True),
    "qwen2": _Family(model_type="qwen2", class_name="Qwen2ForCausalLM", settings=_qwen, names={}),
    "qwen3": _Family(model_type="qwen3", class_name="Qwen3ForCausalLM", settings=_qwen, names={}),
    "phi3": _Family(model_type="phi3", class_name="Phi3ForCausalLM", settings=_phi3, names=_FUSED),
    "gemma": _Family(
        model_type="gemma",
        class_name="GemmaForCausalLM",
        settings=_gemma,
        names={},
        norm_offset=1.0,
        wide="BF16",
    ),
    "gemma2": _Family(
        model_type="gemma2",
        class_name="Gemma2ForCausalLM",
        settings=_gemma2,
        names=_GEMMA_NORMS,
        norm_offset=1.0,
        wide="BF16",
    ),
    "gemma3": _Family(
        model_type="gemma3_text",
        class_name="Gemma3ForCausalLM",
        settings=_gemma3,
        names=_GEMMA_NORMS,
        norm_offset=1.0,
        wide="BF16",
    ),
}
"""Architectures whose files are converted, by llama.cpp's name. Mistral's models go by `llama` there."""
