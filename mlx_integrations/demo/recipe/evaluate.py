"""Measures the shipped model on generated cases whose words were never in its training text.

A case counts when every graded turn is exactly right, character for character, decoded greedily through the runtime's mlx-lm. In a
task of several steps each turn is generated after the right earlier turns.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mlx_integrations.demo.recipe import skills, tokenizer
from mlx_integrations.demo.recipe.case import Case
from mlx_integrations.demo.recipe.draw import Draw
from mlx_integrations.demo.recipe.render import MODEL_FOLDER, answer_text, render
from mlx_integrations.demo.recipe.shape import SHAPE

CASES_PER_SKILL: Final = 60
MOST_QUESTIONS: Final = 2
_MOST_NEW_TOKENS: Final = 128
_ROWS: Final = 64


@dataclass(frozen=True)
class Turn:
    """One turn to generate: whose it is, the prompt and the right answer."""

    skill: str
    case: int
    prompt: str
    expected: str


@dataclass(frozen=True)
class Miss:
    """A turn that came out wrong."""

    turn: Turn
    generated: str


def held_out_cases(skill: str, count: int, seed: str = "evaluation") -> list[Case]:
    """Returns generated cases of `skill` with held-out words that fit the model's context."""
    vocabulary, at = tokenizer.load(), 0
    cases: list[Case] = []
    while len(cases) < count:
        case = skills.make(skill, Draw(f"{seed}:{skill}:{at}", "held_out", MOST_QUESTIONS))
        if len(vocabulary.encode(render(case.messages, case.tools)).ids) <= SHAPE.context_tokens:
            cases.append(case)
        at += 1
    return cases


def turns_of(case: Case, number: int) -> list[Turn]:
    """Returns the graded turns of `case`."""
    return [
        Turn(
            case.skill,
            number,
            render(case.messages[:at], case.tools, add_generation_prompt=True),
            answer_text(case.messages[at]),
        )
        for at in case.graded()
    ]


def generate(folder: Path, prompts: Sequence[str]) -> list[str]:
    """Returns the greedy answer to each rendered prompt.

    Args:
        folder: A model folder.
        prompts: Rendered prompts, ending with the opening of an assistant turn.

    Returns:
        One text for each prompt, in order.
    """
    from mlx_integrations.runtime.blas import preload_blas

    preload_blas()
    from mlx_integrations.runtime._mlx import BatchGenerator, load_weights, mx

    vocabulary = tokenizer.load(folder)
    encoded = [vocabulary.encode(prompt).ids for prompt in prompts]
    order = sorted(range(len(prompts)), key=lambda at: len(encoded[at]))
    end = vocabulary.token_to_id(tokenizer.TURN_END)
    model = load_weights(folder, cpu_float32=True)
    generator = BatchGenerator(model, stop_tokens=[[end]], completion_batch_size=_ROWS, prefill_batch_size=_ROWS // 4)
    rows = generator.insert([encoded[at] for at in order], [_MOST_NEW_TOKENS] * len(order))
    tokens: dict[int, list[int]] = {row: [] for row in rows}
    while responses := generator.next_generated():
        for response in responses:
            if response.finish_reason != "stop":
                tokens[response.uid].append(response.token)
    generator.close()
    mx.synchronize()
    answers = [""] * len(prompts)
    for at, row in zip(order, rows, strict=True):
        answers[at] = vocabulary.decode(tokens[row]).strip()
    return answers


def evaluate(
    folder: Path = MODEL_FOLDER, cases_per_skill: int = CASES_PER_SKILL, seed: str = "evaluation"
) -> tuple[dict[str, Any], list[Miss]]:
    """Measures all skills.

    Args:
        folder: The model folder to measure.
        cases_per_skill: How many cases of each skill.
        seed: Seed of the cases.

    Returns:
        The figures as written to evaluation.json, and the turns that came out wrong.
    """
    cases = [case for skill in skills.SKILLS for case in held_out_cases(skill, cases_per_skill, seed)]
    turns = [turn for number, case in enumerate(cases) for turn in turns_of(case, number)]
    answers = generate(folder, [turn.prompt for turn in turns])
    misses = [Miss(turn, text) for turn, text in zip(turns, answers, strict=True) if text != turn.expected.strip()]
    failed = {miss.turn.case for miss in misses}
    figures: dict[str, Any] = {}
    for skill in skills.SKILLS:
        numbers = [number for number, case in enumerate(cases) if case.skill == skill]
        right = sum(number not in failed for number in numbers)
        figures[skill] = {"cases": len(numbers), "right": right, "accuracy": round(right / len(numbers), 3)}
    return {"seed": seed, "cases_per_skill": cases_per_skill, "skills": figures}, misses


def table(figures: dict[str, Any]) -> str:
    """Returns the figures as a Markdown table."""
    lines = ["| skill | cases | right | accuracy |", "|---|---|---|---|"]
    for skill, row in figures["skills"].items():
        lines.append(f"| {skill.replace('_', ' ')} | {row['cases']} | {row['right']} | {row['accuracy']:.1%} |")
    return "\n".join(lines)


def write(figures: dict[str, Any], folder: Path = MODEL_FOLDER) -> None:
    """Writes the figures to evaluation.json in `folder`."""
    (folder / "evaluation.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
