"""A tiny configuration of every architecture whose caches the estimates know, as mlx-lm's files want them."""

from typing import Any

COMMON: dict[str, Any] = {
    "vocab_size": 128,
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    # Not hidden_size / heads: files that ignore it are told from those that read it.
    "head_dim": 24,
    "rms_norm_eps": 1e-5,
    "layer_norm_eps": 1e-5,
    "layer_norm_epsilon": 1e-5,
    "norm_eps": 1e-5,
    "norm_epsilon": 1e-5,
    "rope_theta": 10000.0,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": True,
    "attention_bias": False,
    "mlp_bias": False,
    "use_bias": True,
    "use_qkv_bias": False,
    "qkv_bias": False,
    "bias": False,
    "logit_scale": 1.0,
    "embedding_multiplier": 1.0,
    "attention_multiplier": 0.1,
    "logits_scaling": 1.0,
    "residual_multiplier": 1.0,
    "num_experts": 4,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32,
    "norm_topk_prob": True,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "first_k_dense_replace": 1,
    "moe_layer_freq": 1,
    "n_group": 1,
    "topk_group": 1,
    "topk_method": "noaux_tc",
    "scoring_func": "sigmoid",
    "routed_scaling_factor": 1.0,
    "kv_lora_rank": 16,
    "q_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 12,
    "v_head_dim": 20,
    "hidden_act": "silu",
    "partial_rotary_factor": 0.5,
    "rope_scaling": None,
    "rope_traditional": False,
}

_ALTERNATING = ["sliding_attention", "full_attention"] * 2
_MAMBA = {"conv_kernel": 4, "use_conv_bias": True, "state_size": 16, "time_step_rank": 4}
_GATED_DELTA = {
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 32,
    "linear_value_head_dim": 16,
    "linear_conv_kernel_dim": 4,
    "full_attention_interval": 2,
}
_MAMBA_OF_HYBRID = {
    "mamba_n_heads": 4,
    "mamba_d_head": 32,
    "mamba_d_ssm": 128,
    "mamba_d_state": 16,
    "mamba_d_conv": 4,
    "mamba_n_groups": 1,
    "mamba_conv_bias": True,
    "mamba_proj_bias": False,
    "shared_intermediate_size": 96,
}
_ROPE = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0, "original_max_position_embeddings": 4096}
_LLAMA_4_ROPE = {**_ROPE, "llama_4_scaling_beta": 0.1, "mscale": 1.0, "mscale_all_dim": 1.0}

_LONG_ROPE = {
    "type": "longrope",
    "short_factor": [1.0] * 4,
    "long_factor": [1.0] * 4,
    "original_max_position_embeddings": 4096,
}

CHANGES: dict[str, dict[str, Any]] = {
    "apertus": {"post_norm": False, "qk_norm": True},
    "cohere2": {"head_dim": 16, "sliding_window": 100, "sliding_window_pattern": 2, "layer_norm_bias": False},
    "deepseek_v2": {"rope_scaling": {**_ROPE, "type": "yarn", "mscale": 1.0, "mscale_all_dim": 1.0}},
    "ernie4_5_moe": {"moe_num_experts": 4, "moe_k": 2, "moe_layer_start_index": 1},
    "exaone": {"head_dim": 16, "num_hidden_layers": None, "num_layers": 4},
    "exaone4": {"sliding_window": 100, "sliding_window_pattern": "LLG"},
    "falcon_h1": _MAMBA_OF_HYBRID,
    "gemma3_text": {"num_hidden_layers": 6, "sliding_window": 100, "sliding_window_pattern": 3},
    "glm4_moe": {"use_qk_norm": True},
    "gpt_oss": {"sliding_window": 128, "layer_types": _ALTERNATING},
    "granitemoehybrid": {**_MAMBA_OF_HYBRID, "layer_types": ["mamba", "attention", "mamba", "mamba"]},
    "jamba": {
        "attn_layer_offset": 1,
        "attn_layer_period": 2,
        "expert_layer_offset": 0,
        "expert_layer_period": 2,
        "mamba_d_conv": 4,
        "mamba_d_state": 8,
        "mamba_expand": 2,
    },
    "lfm2": {
        "conv_bias": False,
        "conv_L_cache": 3,
        "block_dim": 64,
        "block_multiple_of": 16,
        "block_ffn_dim_multiplier": 1.0,
        "block_auto_adjust_ff_dim": False,
        "layer_types": ["conv", "full_attention", "conv", "conv"],
    },
    "lfm2_moe": {
        "conv_bias": False,
        "conv_L_cache": 3,
        "use_expert_bias": False,
        "num_dense_layers": 1,
        "layer_types": ["conv", "full_attention", "conv", "conv"],
    },
    "llama": {"layer_types": _ALTERNATING, "sliding_window": 300},
    "mamba": {**_MAMBA, "use_bias": False},
    "mamba2": {
        **_MAMBA,
        "num_heads": 4,
        "head_dim": 32,
        "n_groups": 1,
        "use_bias": False,
        "time_step_limit": [0.001, 0.1],
    },
    "minicpm3": {"dim_model_base": 64, "scale_depth": 1.4, "scale_emb": 12, "rope_scaling": _LONG_ROPE},
    "minimax": {"shared_intermediate_size": 32, "rotary_dim": 12},
    "ministral3": {"layer_types": _ALTERNATING, "sliding_window": 300, "rope_parameters": _LLAMA_4_ROPE},
    "mistral4": {"rope_parameters": _LLAMA_4_ROPE, "tie_word_embeddings": False},
    "nemotron_h": {
        "mamba_num_heads": 4,
        "mamba_head_dim": 32,
        "mamba_proj_bias": False,
        "ssm_state_size": 16,
        "conv_kernel": 4,
        "n_groups": 1,
        "use_conv_bias": True,
        "use_bias": False,
        "hybrid_override_pattern": "M-*M",
    },
    "olmo3": {"sliding_window": 100},
    "qwen3_5": _GATED_DELTA,
    "qwen3_5_moe": _GATED_DELTA,
    "qwen3_next": _GATED_DELTA,
    "recurrent_gemma": {
        "head_dim": 16,
        "num_key_value_heads": 1,
        "conv1d_width": 4,
        "logits_soft_cap": 30.0,
        "attention_window_size": 100,
        "lru_width": 64,
        "block_types": ["recurrent", "recurrent", "attention"],
    },
}

NESTED: dict[str, dict[str, Any]] = {
    "gemma3n": {
        "num_kv_shared_layers": 2,
        "vocab_size_per_layer_input": 128,
        "sliding_window": 100,
        "rope_local_base_freq": 10000.0,
        "final_logit_softcapping": 30.0,
        "layer_types": _ALTERNATING,
        "activation_sparsity_pattern": [0.0] * 4,
        "hidden_size_per_layer_input": 16,
        "altup_num_inputs": 2,
        "altup_coef_clip": 120.0,
        "altup_correct_scale": True,
        "altup_active_idx": 0,
        "laurel_rank": 8,
    },
    "gemma3": {"num_hidden_layers": 6, "sliding_window": 100, "sliding_window_pattern": 3},
    "llama4": {
        "head_dim": 16,
        "attention_chunk_size": 512,
        "interleave_moe_layer_step": 1,
        "intermediate_size_mlp": 96,
        "num_experts_per_tok": 1,
        "use_qk_norm": False,
    },
    "qwen2_vl": {},
    "qwen3_vl": {},
    "qwen3_5": _GATED_DELTA,
}
"""Architectures whose language model is described under `text_config`."""


def configuration(model_type: str) -> dict[str, Any]:
    """A whole config.json."""
    return {**COMMON, "model_type": model_type, **CHANGES.get(model_type, {})}


def nested_configuration(model_type: str) -> dict[str, Any]:
    """A whole config.json whose language model is nested."""
    inner = {**COMMON, "model_type": f"{model_type}_text", **NESTED[model_type]}
    return {"model_type": model_type, "vocab_size": COMMON["vocab_size"], "text_config": inner}
