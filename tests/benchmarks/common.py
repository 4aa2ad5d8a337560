"""What the benchmarks share: a random-weight model of a chosen size, paired timings, the machine in a line."""

import platform
import statistics
import time
from collections.abc import Callable
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from tests.tiny_models import build_model

_ROOT = Path.home() / ".cache" / "mlx-integrations-benchmarks"


def machine() -> str:
    """The machine and the versions that matter, in one line."""
    name = next(
        (line.split(":", 1)[1].strip() for line in _cpu_lines() if line.startswith("model name")),
        platform.processor() or platform.machine(),
    )
    parts = ", ".join(f"{package} {version(package)}" for package in ("mlx", "mlx-lm", "langchain-core"))
    system = f"{psutil.cpu_count()} logical cores, {platform.system()}, Python {platform.python_version()}"
    return f"{name}, {system}; {parts}"


def _cpu_lines() -> list[str]:
    file = Path("/proc/cpuinfo")
    return file.read_text(encoding="utf-8").splitlines() if file.exists() else []


def model(name: str, **config: Any) -> Path:
    """A llama of random weights, kept between runs."""
    folder = _ROOT / name
    if not (folder / "model.safetensors").exists():
        build_model(folder, "llama", **config)
    return folder


def step_model() -> Path:
    """About 34 million weights: a decoding step takes 5 ms or more on two CPU cores in float32."""
    return model(
        "step",
        hidden_size=640,
        num_hidden_layers=8,
        intermediate_size=1728,
        num_attention_heads=10,
        num_key_value_heads=5,
        head_dim=64,
    )


def small_model() -> Path:
    """So small that what is measured is everything but the model."""
    return model("small")


@lru_cache(maxsize=2)
def upstream(path: Path) -> tuple[Any, Any]:
    """The model as mlx-lm loads it. Worker thread only."""
    from mlx_lm import load

    model, tokenizer = load(str(path))[:2]
    return model, tokenizer


def paired(ours: Callable[[], float], theirs: Callable[[], float], *, rounds: int) -> list[tuple[float, float]]:
    """Measure both in turn, so that a change of the machine's speed hits both; the first round warms up."""
    pairs = [(ours(), theirs()) if n % 2 else tuple(reversed((theirs(), ours()))) for n in range(rounds + 1)]
    return [(a, b) for a, b in pairs[1:]]


def timed(function: Callable[[], Any]) -> float:
    """Seconds that a call takes."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def report(title: str, pairs: list[tuple[float, float]], unit: str) -> float:
    """Print the medians of both and the median ratio; return the ratio."""
    ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratios = sorted(a / b for a, b in pairs)
    ratio = statistics.median(ratios)
    spread = f"({ratios[0]:.3f} to {ratios[-1]:.3f} in {len(ratios)} pairs)"
    print(f"{title}: {ours:,.1f} {unit} against {theirs:,.1f} {unit}; ratio {ratio:.3f} {spread}")  # noqa: T201
    return ratio
