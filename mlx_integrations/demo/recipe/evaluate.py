"""Measures the shipped model on generated cases whose words were never in its training text.

A case counts when every graded turn is exactly right, character for character, decoded greedily through mlx-lm. In a
task of several steps each turn is generated after the right earlier turns.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mlx_integrations.demo.recipe import skills
from mlx_integrations.demo.recipe.case import Case
from mlx_integrations.demo.recipe.draw import Draw
from mlx_integrations.demo.recipe.render import MODEL_FOLDER, answer_text, render

CASES_PER_SKILL: Final = 200
_BATCH_ROWS: Final = 24
_MOST_NEW_TOKENS: Final = 200
_LONGEST_PROMPT_TOKENS: Final = 1024 - _MOST_NEW_TOKENS


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
    """Returns generated cases of `skill` with held-out words."""
    return [skills.make(skill, Draw(f"{seed}:{skill}:{at}", "held_out")) for at in range(count)]


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
    import mlx.core as mx
    from mlx_lm import batch_generate, load

    model, tokenizer, *_ = load(str(folder))
    encoded = [tokenizer.encode(prompt, add_special_tokens=False) for prompt in prompts]
    order = sorted(range(len(prompts)), key=lambda at: len(encoded[at]))
    answers = [""] * len(prompts)
    for start in range(0, len(order), _BATCH_ROWS):
        rows = order[start : start + _BATCH_ROWS]
        response = batch_generate(model, tokenizer, [encoded[at] for at in rows], max_tokens=_MOST_NEW_TOKENS)
        for at, text in zip(rows, response.texts, strict=True):
            answers[at] = text.strip()
    mx.synchronize()
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
