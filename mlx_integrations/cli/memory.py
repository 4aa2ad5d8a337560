"""Whether a model fits this machine, in words and numbers."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mlx_integrations.cli.text import memory
from mlx_integrations.errors import ModelLoadError

if TYPE_CHECKING:
    from mlx_integrations.cli.parts import Invocation
    from mlx_integrations.memory_estimate import Fit, MemoryEstimate
    from mlx_integrations.registry import ModelEntry
    from mlx_integrations.types import Machine

__all__ = ["Guess", "describe", "guess_as_record", "guess_entry", "guess_files", "guess_folder"]

Guess = tuple["MemoryEstimate", "Fit"]
"""What a model takes, and whether that fits."""

_FLOAT32_BITS = 32


def guess_entry(invocation: "Invocation", entry: "ModelEntry", context_tokens: int | None = None) -> Guess | None:
    """For a known model; `None` if the size of its weights is not known.

    Args:
        invocation: This machine, its settings.
        entry: The model.
        context_tokens: Tokens of prompt and answer together; `None` means what the settings say.
    """
    from mlx_integrations.memory_estimate import fits
    from mlx_integrations.registry.selection import estimate_entry

    settings, machine = invocation.settings, invocation.machine
    backend = machine.backend
    if backend == "cpu" and not settings.runtime.cpu_float32:
        backend = "cuda"  # counted like one: weights stay as they are stored
    tokens = context_tokens or settings.models.context_tokens
    estimate = estimate_entry(entry, backend=backend, context_tokens=tokens)
    return None if estimate is None else (estimate, fits(estimate, invocation.budget_bytes))


def guess_files(
    invocation: "Invocation",
    config: Mapping[str, Any],
    weight_bytes: int,
    context_tokens: int | None = None,
    *,
    kind: Literal["chat", "embedding"] | None = "chat",
    float32_bytes: int | None = None,
    max_tokens: int | None = None,
) -> Guess | None:
    """For a model whose files are known, here or on the Hub.

    Args:
        invocation: This machine, its settings.
        config: Its config.json.
        weight_bytes: Of its weights, as stored.
        context_tokens: Tokens of prompt and answer together; `None` means what the settings say.
        kind: What it is run as.
        float32_bytes: Of its weights as float32; `None` if the files could not be asked.
        max_tokens: Where an embedding model cuts texts; `None` if the files could not be asked.
    """
    from mlx_integrations.registry import ModelEntry

    entry = ModelEntry(
        id="",
        name="",
        kind=kind or "chat",
        weight_bytes=weight_bytes,
        float32_bytes=float32_bytes or _float32_bytes(config, weight_bytes),
        architecture=config,
        context_window=_window(config),
        max_tokens=max_tokens or _window(config),
    )
    return guess_entry(invocation, entry, context_tokens) if weight_bytes else None


def guess_folder(
    invocation: "Invocation",
    path: Path,
    context_tokens: int | None = None,
    *,
    kind: Literal["chat", "embedding"] | None,
) -> Guess | None:
    """For a model on this machine, from the headers of its weights; `None` if they cannot be read."""
    from mlx_integrations.runtime.folder import read_folder

    try:
        folder = read_folder(path)
    except ModelLoadError:
        return None
    sizes = [folder.weight_bytes(as_float32=as_float32) for as_float32 in (False, True)]
    return guess_files(
        invocation,
        folder.config,
        sizes[0],
        context_tokens,
        kind=kind,
        float32_bytes=sizes[1],
        max_tokens=_text_limit(path) if kind == "embedding" else None,
    )


def describe(guess: Guess, machine: "Machine") -> list[str]:
    """What it takes, what that is made of, and the verdict: a line each, short enough for any terminal."""
    estimate, fit = guess
    tokens = f"{estimate.context_tokens:,} tokens"
    if estimate.cache_bytes == 0:  # an embedding model keeps nothing of one text for the next
        length, context = f"texts of {tokens}", ""
    else:
        length = f"{tokens} of context"
        context = f"context {'unknown' if estimate.cache_bytes is None else memory(estimate.cache_bytes)}, "
    budget = f"models may take {memory(fit.budget_bytes)} of this machine's {memory(machine.memory_bytes)}"
    verdict = "the weights fit" if fit.verdict == "unknown" else fit.verdict
    lines = [
        f"{memory(estimate.total_bytes)} with {length}",
        f"(weights {memory(estimate.weight_bytes)}, {context}work {memory(estimate.margin_bytes)})",
        f"{verdict}: {budget}",
    ]
    if fit.verdict == "too large" and fit.largest_context_tokens:
        lines.append(f"{fit.largest_context_tokens:,} tokens of context would fit")
    return lines


def guess_as_record(guess: Guess) -> dict[str, Any]:
    """The same as plain values."""
    estimate, fit = guess
    return {
        "context_tokens": estimate.context_tokens,
        "weight_bytes": estimate.weight_bytes,
        "cache_bytes": estimate.cache_bytes,
        "margin_bytes": estimate.margin_bytes,
        "total_bytes": estimate.total_bytes,
        "budget_bytes": fit.budget_bytes,
        "verdict": fit.verdict,
        "largest_context_tokens": fit.largest_context_tokens,
    }


def _text_limit(path: Path) -> int | None:
    """Where an embedding model's own files say that texts are cut."""
    from mlx_integrations.runtime.embedding.model_files import read_sentence_model

    try:
        return read_sentence_model(path).max_tokens
    except ModelLoadError:
        return None


def _window(config: Mapping[str, Any]) -> int | None:
    """The tokens that a model reads, if its configuration says: nothing beyond them is worth counting."""
    text = config.get("text_config")
    values = [part.get("max_position_embeddings") for part in (text, config) if isinstance(part, Mapping)]
    return next((value for value in values if isinstance(value, int) and value > 0), None)


def _float32_bytes(config: Mapping[str, Any], weight_bytes: int) -> int:
    """Weights as float32, from how many bits each takes now. What a checkpoint leaves unquantised counts too much."""
    quantization = config.get("quantization") or config.get("quantization_config") or {}
    bits, group = quantization.get("bits"), quantization.get("group_size")
    if isinstance(bits, int) and isinstance(group, int) and bits > 0 and group > 0:
        return int(weight_bytes * _FLOAT32_BITS / (bits + 32 / group))  # a scale and a bias of 16 bits for each group
    stored = {"float32": 32, "float64": 64}.get(str(config.get("torch_dtype") or config.get("dtype")), 16)
    return int(weight_bytes * _FLOAT32_BITS / stored)
