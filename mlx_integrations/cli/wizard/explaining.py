"""What the wizard says without asking: the machine in plain words, and where cloud keys belong. Pure."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mlx_integrations.cli.config import short_path
from mlx_integrations.cli.text import disk, memory

if TYPE_CHECKING:
    from mlx_integrations.registry import Recommendation
    from mlx_integrations.types import Machine

__all__ = ["CLOUD_KEYS", "cloud_key_lines", "describe_machine", "next_commands"]

CLOUD_KEYS: Final = (
    ("OPENAI_API_KEY",),
    ("ANTHROPIC_API_KEY",),
    ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
    ("OPENROUTER_API_KEY",),
)
"""Variables that the clients of these services read their keys from; either of a pair."""
_WHERE: Final = {
    "metal": "MLX computes on the GPU, with Metal.",
    "cuda": "MLX computes on the NVIDIA GPU, with CUDA.",
    "cpu": "MLX computes on the CPU: exact, but much slower than on a GPU. Small models are the pleasant ones here.",
}


def describe_machine(
    machine: "Machine",
    *,
    budget_bytes: int,
    cache_dir: Path,
    free_disk_bytes: int,
    context_tokens: int,
    chat_models: "Sequence[Recommendation]",
) -> list[tuple[str, str]]:
    """This machine, and what it can do, as names and texts.

    Args:
        machine: What it has.
        budget_bytes: What models may take.
        cache_dir: Where models go.
        free_disk_bytes: Free there.
        context_tokens: The context that memory is estimated for.
        chat_models: The known chat models, judged for it.
    """
    name = f"Apple {machine.chip.name}" if machine.chip else machine.device_name
    fitting = [one for one in chat_models if one.fit is not None and not one.fit.is_refused]
    largest = max(fitting, key=lambda one: one.entry.parameters or 0, default=None)
    models = f"{len(fitting)} of {len(chat_models)} known chat models fit with {context_tokens:,} tokens of context"
    if largest is not None and largest.fit is not None:
        models += f"; the largest is {largest.entry.id} ({memory(largest.fit.needed_bytes)})"
    source = f" ({machine.usable_source})" if machine.usable_source else ""
    return [
        ("machine", f"{name}, {machine.cores} cores, {machine.system}"),
        ("computing", _WHERE[machine.backend]),
        ("memory", f"{memory(machine.memory_bytes)}, of which models may use {memory(budget_bytes)}{source}"),
        ("disk", f"{disk(free_disk_bytes)} free for models, in {short_path(cache_dir)}"),
        ("models", f"{models}."),
    ]


def cloud_key_lines(environ: Mapping[str, str], *, is_mac: bool) -> tuple[list[tuple[str, bool]], str, list[str]]:
    """Which cloud keys are set, what that means here, and how one is set.

    Args:
        environ: Environment variables. Their values are not looked at, but for being there.
        is_mac: Whether there is a macOS keychain.

    Returns:
        Names and whether they are set; a sentence; commands.
    """
    keys = [(" or ".join(names), any(environ.get(name) for name in names)) for names in CLOUD_KEYS]
    meaning = (
        "These models run on this machine, and nothing you ask them leaves it: no key is needed. Clients of cloud "
        "services that you use beside them read their keys from the environment; mlxi never writes a key to a file."
    )
    if is_mac:
        commands = [
            'security add-generic-password -a "$USER" -s OPENAI_API_KEY -w',
            'export OPENAI_API_KEY="$(security find-generic-password -a "$USER" -s OPENAI_API_KEY -w)"',
        ]
    else:
        commands = ["read -rs OPENAI_API_KEY && export OPENAI_API_KEY"]
    return keys, meaning, commands


def next_commands(model: str, embedding: str) -> list[tuple[str, str]]:
    """What to do now, and what it does."""
    return [
        ("mlxi chat", f"a conversation with {model}"),
        ('mlxi embed "some text"', f"a vector of {embedding}"),
        ("mlxi models list", "what is on this machine"),
        ("mlxi doctor", "what is wrong, if something is"),
    ]
