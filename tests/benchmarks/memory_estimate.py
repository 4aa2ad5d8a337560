"""Memory estimates against the most that MLX measured: load, prompt, short answer, each model in its own process.

One model and its contexts can be named: `python -m tests.benchmarks.memory_estimate "llama, 29 M weights" 500`.
"""

import json
import random
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlx_integrations.memory_estimate import estimate_memory
from mlx_integrations.runtime.engine import Runtime
from mlx_integrations.runtime.worker import get_worker
from mlx_integrations.settings import RuntimeSettings
from mlx_integrations.types import ChatMessage, ChatRequest, ChatResult, SamplingParams
from tests.benchmarks.common import machine
from tests.runtime.cache_architectures import CHANGES, COMMON
from tests.tiny_models import ARCHITECTURES, VOCABULARY_SIZE, build_model

MIB = 1024**2
CONTEXTS = (500, 2000, 6000)
_WINDOW = {"max_position_embeddings": 16384, "vocab_size": VOCABULARY_SIZE}


def _shape(hidden: int, feed_forward: int, layers: int, heads: int, kv_heads: int, width: int) -> dict[str, int]:
    return {
        "hidden_size": hidden,
        "intermediate_size": feed_forward,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": width,
    }


# None of them is among the shapes that the factors of the margin were fitted to.
MODELS: dict[str, dict[str, Any]] = {
    "llama, 29 M weights": {**ARCHITECTURES["llama"], **_shape(640, 1728, 6, 10, 5, 64)},
    "llama, 118 M weights": {**ARCHITECTURES["llama"], **_shape(1280, 3456, 6, 20, 5, 64)},
    "qwen3, 64 M weights": {**ARCHITECTURES["qwen3"], **_shape(896, 2688, 5, 14, 7, 128)},
    "gemma3, sliding windows": {
        **ARCHITECTURES["gemma3"],
        **_shape(640, 2560, 12, 4, 1, 256),
        "sliding_window": 512,
        "sliding_window_pattern": 6,
    },
    "deepseek_v3, latents": {
        **COMMON,
        "model_type": "deepseek_v3",
        **_shape(768, 2048, 6, 12, 12, 64),
        "kv_lora_rank": 256,
        "q_lora_rank": 256,
        "qk_rope_head_dim": 32,
        "qk_nope_head_dim": 64,
        "v_head_dim": 64,
        "first_k_dense_replace": 6,
    },
    "deepseek_v2, expanded": {
        **COMMON,
        "model_type": "deepseek_v2",
        **CHANGES["deepseek_v2"],
        **_shape(640, 1728, 4, 10, 10, 64),
        "kv_lora_rank": 128,
        "q_lora_rank": None,
        "qk_rope_head_dim": 32,
        "qk_nope_head_dim": 64,
        "v_head_dim": 64,
        "first_k_dense_replace": 4,
    },
    "qwen3_moe, 2 of 8 experts": {
        **ARCHITECTURES["mixture_of_experts"],
        **_shape(768, 2048, 6, 12, 4, 64),
        "num_experts": 8,
        "moe_intermediate_size": 512,
    },
    "lfm2, convolutions": {
        **COMMON,
        "model_type": "lfm2",
        **CHANGES["lfm2"],
        **_shape(768, 2304, 4, 12, 4, 64),
        "block_dim": 768,
    },
    "mamba2, states": {
        **COMMON,
        "model_type": "mamba2",
        **CHANGES["mamba2"],
        "hidden_size": 640,
        "num_hidden_layers": 6,
        "num_heads": 20,
        "head_dim": 64,
        "intermediate_size": 1280,
        "state_size": 64,
    },
}


def _text(backend: Any, tokens: int) -> str:
    words = random.Random(0).choices(["alpha", "beta", "queue", "worker", "the", "of"], k=tokens)
    text = " ".join(words)
    while (count := len(backend.tokenize(text))) > tokens:
        words = words[: len(words) * tokens // count]
        text = " ".join(words)
    return text


def measure(name: str, contexts: Sequence[int] = CONTEXTS) -> list[dict[str, int]]:
    """What was estimated and measured for each context, in a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.memory_estimate", name, *map(str, contexts)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [json.loads(line) for line in output.splitlines()]


def _measure(name: str, contexts: Sequence[int]) -> None:
    """Print one line for each context, as JSON."""
    config = {**MODELS[name], **_WINDOW}
    with tempfile.TemporaryDirectory() as root:
        folder = build_model(Path(root) / "model", "llama", **config)
        runtime, worker = Runtime(RuntimeSettings(prefix_cache_bytes=0)), get_worker()
        from mlx_integrations.runtime._mlx import mx

        worker.call(mx.clear_cache).result()
        before = worker.call(mx.get_active_memory).result()
        runtime.load(folder)
        (loaded,) = runtime.models()
        backend = runtime.chat(folder)
        for context in contexts:
            worker.call(mx.reset_peak_memory).result()
            request = ChatRequest(
                messages=(ChatMessage(role="user", content=_text(backend, context)),),
                sampling=SamplingParams(temperature=0.0, max_tokens=4, logit_bias={2: -1000.0}),
            )
            usage = ChatResult.join(backend.stream(request)).finish.usage
            tokens = usage.prompt_tokens + usage.completion_tokens
            estimate = estimate_memory(
                config, loaded.weight_bytes, tokens, bytes_per_element=4, is_attention_fused=False
            )
            row = {
                "tokens": tokens,
                "weights": estimate.weight_bytes,
                "cache": estimate.cache_bytes,
                "margin": estimate.margin_bytes,
                "estimate": estimate.total_bytes,
                "peak": worker.call(mx.get_peak_memory).result() - before,
                "resident": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            }
            print(json.dumps(row), flush=True)  # noqa: T201
        runtime.close()


def main() -> None:
    """Print the figures."""
    if len(sys.argv) > 1:
        _measure(sys.argv[1], [int(context) for context in sys.argv[2:]] or CONTEXTS)
        return
    print(machine())  # noqa: T201
    print("| model | tokens | weights | cache | margin | estimate | measured | difference | process |")  # noqa: T201
    worst = 0.0
    for name in MODELS:
        for row in measure(name):
            difference = row["estimate"] / row["peak"] - 1
            worst = max(worst, abs(difference))
            parts = (row[part] / MIB for part in ("weights", "cache", "margin", "estimate", "peak"))
            shown = " | ".join(f"{part:,.1f}" for part in parts)
            print(  # noqa: T201
                f"| {name} | {row['tokens']:,} | {shown} | {difference:+.1%} | {row['resident'] / MIB:,.0f} |",
                flush=True,
            )
    print(f"largest difference {worst:.1%}; figures in MiB")  # noqa: T201


if __name__ == "__main__":
    main()
