"""Tiny random-weight models of real architectures, built on the spot: right shapes and real code, no meaning.

Their answers are noise, which is what makes exactness and grammar tests strong: nothing is right by habit.
"""

import json
from pathlib import Path
from typing import Any

from mlx_integrations.runtime.worker import get_worker

VOCABULARY_SIZE = 1024
_SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>", "<think>", "</think>"]

CHAT_TEMPLATE = """{%- if tools %}<|im_start|>system
{% if messages[0].role == 'system' %}{{ messages[0].content }}
{% endif %}# Tools
{% for tool in tools %}{{ tool | tojson }}
{% endfor %}<|im_end|>
{% elif messages[0].role == 'system' %}<|im_start|>system
{{ messages[0].content }}<|im_end|>
{% endif -%}
{%- for message in messages %}
{%- if message.role == 'user' or message.role == 'tool' %}<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% elif message.role == 'assistant' %}<|im_start|>assistant
{{ message.content or '' }}
{%- for tool_call in message.tool_calls or [] %}
<tool_call>
{"name": "{{ tool_call.function.name if tool_call.function else tool_call.name }}", "arguments": {{ (tool_call.function or tool_call).arguments | tojson }}}
</tool_call>
{%- endfor %}<|im_end|>
{% endif -%}
{%- endfor -%}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif -%}
"""  # noqa: E501  (a template's lines are its output)

_COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY_SIZE,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": True,
}

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": {**_COMMON, "model_type": "llama"},
    "qwen3": {**_COMMON, "model_type": "qwen3"},
    "gemma3": {
        **_COMMON,
        "model_type": "gemma3_text",
        "num_hidden_layers": 6,
        "sliding_window": 32,
        "sliding_window_pattern": 3,
        "query_pre_attn_scalar": 16,
        "rope_local_base_freq": 10000.0,
        "rope_global_base_freq": 1000000.0,
    },
    "mixture_of_experts": {
        **_COMMON,
        "model_type": "qwen3_moe",
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        "moe_intermediate_size": 64,
        "norm_topk_prob": True,
    },
    "recurrent": {
        "model_type": "mamba2",
        "vocab_size": VOCABULARY_SIZE,
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_heads": 4,
        "head_dim": 32,
        "intermediate_size": 128,
        "state_size": 16,
        "conv_kernel": 4,
        "n_groups": 1,
        "use_bias": False,
        "use_conv_bias": True,
        "tie_word_embeddings": True,
        "time_step_limit": [0.001, 0.1],
        "time_step_rank": "auto",
        "max_position_embeddings": 4096,
        "layer_norm_epsilon": 1e-5,
        "ssm_state_size": 16,
        "max_seq_len": 4096,
    },
}


def build_tokenizer(folder: Path, *, chat_template: str | None = CHAT_TEMPLATE) -> None:
    """Train a small byte-level BPE on the standard library's own docstrings and save it in `folder`."""
    import argparse
    import asyncio
    import collections
    import logging

    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    modules = (argparse, asyncio, collections, json, logging)
    texts = [
        value.__doc__
        for module in modules
        for value in vars(module).values()
        if isinstance(getattr(value, "__doc__", None), str)
    ]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE - 24,  # some models pad their vocabulary: leave ids that no token has
        special_tokens=_SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
    }
    if chat_template is not None:
        settings["chat_template"] = chat_template
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")


def build_model(
    folder: Path,
    architecture: str = "llama",
    *,
    seed: int = 0,
    chat_template: str | None = CHAT_TEMPLATE,
    **changes: Any,
) -> Path:
    """Write a whole model folder: config, random weights, tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {**ARCHITECTURES[architecture], "eos_token_id": 2, **changes}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    build_tokenizer(folder, chat_template=chat_template)
    get_worker().call(_save_random_weights, folder, config, seed).result()
    return folder


def _save_random_weights(folder: Path, config: dict[str, Any], seed: int) -> None:
    from mlx_integrations.runtime.blas import preload_blas

    preload_blas()
    from mlx_integrations.runtime._mlx import mx, tree_flatten  # first: it guards the import of mlx_lm

    from mlx_lm.utils import _get_classes  # isort: skip

    mx.random.seed(seed)
    model_class, arguments_class = _get_classes(config)
    model = model_class(arguments_class.from_dict(config))
    flat: dict[str, Any] = dict(tree_flatten(model.parameters()))
    # Default initialisation leaves logits almost flat; wider weights give every position a clear favourite.
    weights = {
        name: value + mx.random.normal(value.shape) * 0.25 if value.ndim >= 2 else value for name, value in flat.items()
    }
    mx.save_safetensors(str(folder / "model.safetensors"), weights, metadata={"format": "mlx"})
