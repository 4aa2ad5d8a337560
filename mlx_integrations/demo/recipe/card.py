"""Writes the model card from what training and evaluation recorded."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlx_integrations.demo.recipe import evaluate
from mlx_integrations.demo.recipe.phases import PHASES
from mlx_integrations.demo.recipe.render import MODEL_FOLDER
from mlx_integrations.demo.recipe.shape import SHAPE

if TYPE_CHECKING:
    from mlx_integrations.demo.recipe.train import Progress

_CARD = """\
---
license: apache-2.0
language: en
library_name: mlx
pipeline_tag: text-generation
---

# The mlx-integrations demo model

A Llama-architecture chat model with {weights} weights in float32 ({megabytes:.1f} MB with its tokenizer). It ships
inside `mlx-integrations` so that the first command works on any machine, offline, and so that tests exercise real
generation. It runs through the same code as a large model. It is a demonstration, not an assistant.

## What it can do

| skill | what it means |
|---|---|
| small talk | greets, says what it is, and says so when it does not know |
| passages | answers with the sentence of a given text that answers, or says that the text does not |
| tool choice | picks one of up to eight tools, copies the arguments, calls in parallel, or calls none |
| tool results | answers from what a tool returned, or reports its error |
| agents | takes two or three steps, using one tool's result in the next call |
| memory | repeats what was said earlier in the chat |
| schemas | fills a JSON Schema from a text |

## What it cannot do

It knows nothing about the world, cannot reason or calculate, and writes no text of its own. Its English is that of
its generator: questions far from the wording it was trained on get wrong or odd answers. It copies; what it copies
may be the wrong span. Do not rely on anything it says.

## Measured

Exact match, character for character, greedy, on the shipped files through the package's own runtime, which holds JSON
to its schema and calls to their tools. The cases are generated; their names and other content words never occur in the
training text ({cases} cases of each skill, seed `{seed}`). Where a task has several steps, all must be right, each
generated after the right earlier ones; a conversation asks one or two questions. The last column is the same with words
that are often spliced from pieces or in other scripts. The wording around the words is the generator's own, as in
training, so these figures say how well it copies and chooses, not how well it understands free English.

{table}

## How it was trained

All text comes from the generator in `mlx_integrations/demo/recipe`; nothing was copied from anywhere and no other
model was used. A sixth of all content words, listed and invented ones alike, is held out by a hash.

- shape: {layers} layers, width {width}, {heads} heads, feed-forward {feed_forward}, tied embeddings, {vocabulary}
  tokens (byte-level BPE, one token a digit, words tokenised alike with and without a blank before them), context
  {context} tokens
- loss: weight 1 on the assistant's tokens, less on all others (last column)
- optimiser: Muon for the layers' matrices, AdamW for the rest, bfloat16 matrix products, float32 weights
- used in all: {tokens:.1f} million tokens, {steps} updates, {minutes:.0f} minutes on {hardware}

{phases}

To do it again, with the `train` extra installed: `python -m mlx_integrations.demo.recipe`. Same seeds give the same
text; the weights may differ in the last digits between machines.{note} To train on from the shipped weights, add a phase
to `phases.py` and run the step `train` with `--go-on`.

## Prompt format

ChatML turns (`<|im_start|>role`, `<|im_end|>`), one line per tool in the system turn, Hermes-style `<tool_call>`
blocks. For JSON the system message ends with `Reply with JSON that matches this JSON Schema:` and the schema on the
next line.
"""


def write_training(progress: Progress, folder: Path = MODEL_FOLDER, hardware: str = "2 shared CPU cores") -> None:
    """Writes training.json: what the training used."""
    record = {"hardware": hardware, "note": "", **asdict(progress), "phases": [asdict(phase) for phase in PHASES]}
    (folder / "training.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _phases(phases: list[dict[str, Any]]) -> str:
    lines = [
        "| phase | seed | updates | tokens a batch | longest text | learning rate | warm-up | decay over the last | weight of other tokens |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for phase in phases:
        falls = phase["last_rate"] < phase["peak_rate"]
        rates = f"{phase['peak_rate']} to {phase['last_rate']}" if falls else str(phase["peak_rate"])
        cells = [phase[name] for name in ("name", "seed", "steps", "batch_tokens", "longest_tokens")]
        cells += [rates, phase["warm_up_steps"], f"{phase['decay_share']:.0%}" if falls else "-", phase["other_weight"]]
        lines.append(f"| {' | '.join(str(cell) for cell in cells)} |")
    return "\n".join(lines)


def card(folder: Path = MODEL_FOLDER) -> str:
    """Returns the text of the card for the files in `folder`."""
    training = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    figures = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    size = sum(path.stat().st_size for path in folder.iterdir() if path.name != "README.md")
    layer = 4 * SHAPE.width**2 + 3 * SHAPE.width * SHAPE.feed_forward + 2 * SHAPE.width
    weights = SHAPE.vocabulary * SHAPE.width + SHAPE.layers * layer + SHAPE.width
    return _CARD.format(
        weights=f"{weights:,}",
        megabytes=size / 1e6,
        cases=figures["cases_per_skill"],
        seed=figures["seed"],
        table=evaluate.table(figures),
        layers=SHAPE.layers,
        width=SHAPE.width,
        heads=SHAPE.heads,
        feed_forward=SHAPE.feed_forward,
        vocabulary=SHAPE.vocabulary,
        context=SHAPE.context_tokens,
        tokens=training["tokens"] / 1e6,
        steps=training["steps"],
        minutes=training["seconds"] / 60,
        hardware=training["hardware"],
        phases=_phases(training["phases"]),
        note=f" {training['note']}" if training["note"] else "",
    )


def write(folder: Path = MODEL_FOLDER) -> None:
    """Writes README.md into `folder`."""
    (folder / "README.md").write_text(card(folder), encoding="utf-8")
