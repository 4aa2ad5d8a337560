"""Trains the network in phases on generated conversations."""

from __future__ import annotations

import json
import math
import sys
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

import torch  # type: ignore[import-not-found, unused-ignore]
from safetensors.torch import load_file

from mlx_integrations.demo.recipe import batches
from mlx_integrations.demo.recipe.network import Llama
from mlx_integrations.demo.recipe.optimiser import MuonAdamW
from mlx_integrations.demo.recipe.phases import PHASES, Phase
from mlx_integrations.demo.recipe.render import MODEL_FOLDER
from mlx_integrations.demo.recipe.shape import SHAPE

_REPORT_STEPS: Final = 50
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


def train(folder: Path, *, workers: int = 2, phases: tuple[Phase, ...] = PHASES) -> Progress:
    """Runs all phases that `folder` does not already hold; progress goes to standard error.

    Args:
        folder: Where checkpoints go; a phase with a finished checkpoint there is not run again.
        workers: Processes that share each batch, one processor thread each.
        phases: What to run, in order.

    Returns:
        What the training used in all.
    """
    folder.mkdir(parents=True, exist_ok=True)
    meeting = folder / "meeting"
    meeting.unlink(missing_ok=True)
    torch.multiprocessing.spawn(_work, (workers, folder.resolve(), phases), nprocs=workers)
    return Progress(**json.loads((folder / "progress.json").read_text(encoding="utf-8")))


def start_from_shipped(folder: Path, phases: tuple[Phase, ...] = PHASES, model: Path = MODEL_FOLDER) -> None:
    """Writes the shipped weights as the outcome of all phases but the last, so that training goes on from them.

    Args:
        folder: Where checkpoints go; those that are there already stay.
        phases: What `train` will be asked to run; add one to the end first.
        model: The folder of the shipped weights.
    """
    weights = load_file(str(model / "model.safetensors"))
    recorded = json.loads((model / "training.json").read_text(encoding="utf-8"))
    progress = {field.name: recorded[field.name] for field in fields(Progress)}
    folder.mkdir(parents=True, exist_ok=True)
    for phase in phases[:-1]:
        if not (folder / f"{phase.name}.pt").exists():
            torch.save({"weights": weights, "average": weights, "progress": progress}, folder / f"{phase.name}.pt")


def _work(rank: int, workers: int, folder: Path, phases: tuple[Phase, ...]) -> None:
    """Runs the phases in one of the worker processes."""
    torch.set_num_threads(1)
    torch.manual_seed(phases[0].seed)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=workers)
    network, progress = Llama(SHAPE), Progress()
    for layer in network.model.layers:
        layer.compile(dynamic=True)
    for phase in phases:
        finished = folder / f"{phase.name}.pt"
        if not finished.exists():
            average = _run(network, phase, progress, folder, rank, workers)
            if rank == 0:
                _save(network, average, progress, finished)
        torch.distributed.barrier()
        saved = torch.load(finished, weights_only=True)
        network.load_state_dict(saved["weights"])
        progress = Progress(**saved["progress"])
    if rank == 0:
        (folder / "progress.json").write_text(json.dumps(asdict(progress), indent=2) + "\n", encoding="utf-8")
    torch.distributed.destroy_process_group()


def _run(network: Any, phase: Phase, progress: Progress, folder: Path, rank: int, workers: int) -> dict[str, Any]:
    """Runs one phase and returns the running average of the weights."""
    optimiser = MuonAdamW(network)
    average = {name: weight.clone() for name, weight in network.state_dict().items()}
    source = batches.batches(phase)
    began, before = time.monotonic(), progress.seconds
    losses: list[float] = []
    for step in range(phase.steps):
        batch = next(source)
        losses.append(_gradients(network, batch, rank, workers))
        torch.nn.utils.clip_grad_norm_(network.parameters(), _CLIP)
        optimiser.step(learning_rate(phase, step))
        for name, weight in network.state_dict().items():
            average[name].lerp_(weight, 1 - min(_AVERAGE, (step + 1) / (step + 10)))
        progress.tokens += sum(len(example.tokens) for example in batch)
        progress.steps += 1
        progress.seconds = before + time.monotonic() - began
        if rank == 0 and (step + 1) % _REPORT_STEPS == 0:
            progress.phase, progress.loss = phase.name, sum(losses[-_REPORT_STEPS:]) / _REPORT_STEPS
            print(
                f"{phase.name} step {step + 1}/{phase.steps} loss {progress.loss:.4f} "
                f"tokens {progress.tokens / 1e6:.2f}M minutes {progress.seconds / 60:.1f}",
                file=sys.stderr,
                flush=True,
            )
            _save(network, average, progress, folder / "running.pt")
    return average


def _gradients(network: Any, batch: list[batches.Example], rank: int, workers: int) -> float:
    """Leaves the gradients of the whole batch in the network, each worker having computed its share of the rows.

    Returns:
        The loss of the batch.
    """
    total = sum(sum(example.weights[1:]) for example in batch)
    rows = batch[rank::workers]
    summed = torch.zeros(())
    if rows:
        tokens, weights = tensors(rows)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            summed = network.loss(tokens, weights) / total
        summed.backward()
    parameters = list(network.parameters())
    flat = [weight.grad if rows else torch.zeros_like(weight) for weight in parameters]
    flat.append(summed.detach())
    together = torch.cat([part.reshape(-1) for part in flat])
    torch.distributed.all_reduce(together)
    for weight, part in zip(parameters, together[:-1].split([weight.numel() for weight in parameters]), strict=True):
        weight.grad = part.view_as(weight)
    return float(together[-1])


def _save(network: Any, average: dict[str, Any], progress: Progress, path: Path) -> None:
    torch.save({"weights": network.state_dict(), "average": average, "progress": asdict(progress)}, path)
