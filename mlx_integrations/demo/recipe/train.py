"""Trains the network in phases on generated conversations."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch  # type: ignore[import-not-found, unused-ignore]

from mlx_integrations.demo.recipe import batches
from mlx_integrations.demo.recipe.network import Llama
from mlx_integrations.demo.recipe.optimiser import MuonAdamW
from mlx_integrations.demo.recipe.phases import PHASES, Phase
from mlx_integrations.demo.recipe.shape import SHAPE

_REPORT_STEPS: Final = 50
_SAVE_STEPS: Final = 200
_CLIP: Final = 1.0
_AVERAGE: Final = 0.99


@dataclass
class Progress:
    """What training has used so far."""

    phase: str = ""
    steps: int = 0
    tokens: int = 0
    seconds: float = 0.0
    loss: float = math.nan


def learning_rate(phase: Phase, step: int) -> float:
    """Returns the rate at `step` of `phase`: linear warm-up, level, then linear decay."""
    if step < phase.warm_up_steps:
        return phase.peak_rate * (step + 1) / phase.warm_up_steps
    left = (phase.steps - step) / max(1, round(phase.steps * phase.decay_share))
    return phase.last_rate + (phase.peak_rate - phase.last_rate) * min(1.0, left)


def tensors(batch: list[batches.Example]) -> tuple[Any, Any]:
    """Returns the batch as tokens (B, T) int64 and weights (B, T) float32, padded on the right."""
    longest = max(len(example.tokens) for example in batch)
    tokens = torch.zeros(len(batch), longest, dtype=torch.long)
    weights = torch.zeros(len(batch), longest)
    for row, example in enumerate(batch):
        tokens[row, : len(example.tokens)] = torch.tensor(example.tokens)
        weights[row, : len(example.tokens)] = torch.tensor(example.weights)
    return tokens, weights


def train(
    folder: Path, report: Callable[[str], None], *, threads: int = 2, phases: tuple[Phase, ...] = PHASES
) -> Progress:
    """Runs all phases that `folder` does not already hold.

    Args:
        folder: Where checkpoints go; a phase with a finished checkpoint there is not run again.
        report: Gets a line of progress now and then.
        threads: Processor threads for torch.
        phases: What to run, in order.

    Returns:
        What the training used in all.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(phases[0].seed)
    folder.mkdir(parents=True, exist_ok=True)
    network, progress = Llama(SHAPE), Progress()
    for layer in network.model.layers:
        layer.compile(dynamic=True)
    report(f"{sum(weight.numel() for weight in network.parameters()):,} weights")
    for phase in phases:
        finished = folder / f"{phase.name}.pt"
        if not finished.exists():
            average = _run(network, phase, progress, folder, report)
            _save(network, average, progress, finished)
        saved = torch.load(finished, weights_only=True)
        network.load_state_dict(saved["weights"])
        progress = Progress(**saved["progress"])
    (folder / "progress.json").write_text(json.dumps(asdict(progress), indent=2) + "\n", encoding="utf-8")
    return progress


def _run(network: Any, phase: Phase, progress: Progress, folder: Path, report: Callable[[str], None]) -> dict[str, Any]:
    """Runs one phase and returns the running average of the weights."""
    optimiser = MuonAdamW(network)
    average = {name: weight.clone() for name, weight in network.state_dict().items()}
    source = batches.batches(phase.seed, phase.longest_tokens, phase.batch_tokens)
    began, before = time.monotonic(), progress.seconds
    losses: list[float] = []
    for step in range(phase.steps):
        tokens, weights = tensors(next(source))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = network.loss(tokens, weights)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), _CLIP)
        optimiser.step(learning_rate(phase, step))
        for name, weight in network.state_dict().items():
            average[name].lerp_(weight, 1 - min(_AVERAGE, (step + 1) / (step + 10)))
        losses.append(float(loss.detach()))
        progress.tokens += int((weights > 0).sum())
        progress.steps += 1
        progress.seconds = before + time.monotonic() - began
        if (step + 1) % _REPORT_STEPS == 0:
            progress.phase, progress.loss = phase.name, sum(losses[-_REPORT_STEPS:]) / _REPORT_STEPS
            report(
                f"{phase.name} step {step + 1}/{phase.steps} loss {progress.loss:.4f} "
                f"tokens {progress.tokens / 1e6:.2f}M minutes {progress.seconds / 60:.1f}"
            )
        if (step + 1) % _SAVE_STEPS == 0:
            _save(network, average, progress, folder / "running.pt")
    return average


def _save(network: Any, average: dict[str, Any], progress: Progress, path: Path) -> None:
    torch.save({"weights": network.state_dict(), "average": average, "progress": asdict(progress)}, path)
