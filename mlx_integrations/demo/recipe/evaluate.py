"""Measures the shipped model on generated cases whose words were never in its training text.

A case counts when every graded turn is exactly right, character for character, decoded greedily through the package's own
runtime: JSON is held to its schema and a call that is begun to its tool, as for every user. In a task of several steps
each turn is generated after the right earlier turns.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mlx_integrations.demo.recipe import skills, tokenizer
from mlx_integrations.demo.recipe.case import Case, Message, Tool, calling
from mlx_integrations.demo.recipe.draw import Draw
from mlx_integrations.demo.recipe.render import MODEL_FOLDER, answer_text, render
from mlx_integrations.demo.recipe.shape import SHAPE
from mlx_integrations.demo.recipe.skills import schemas
from mlx_integrations.errors import OutputError
from mlx_integrations.runtime.engine import Runtime
from mlx_integrations.types import (
    ChatMessage,
    ChatRequest,
    ChatResult,
    JsonSchemaFormat,
    SamplingParams,
    ToolCall,
    ToolSpec,
)

CASES_PER_SKILL: Final = 60
MOST_QUESTIONS: Final = 2
_MOST_NEW_TOKENS: Final = 128
_ROWS: Final = 32


@dataclass(frozen=True)
class Turn:
    """One turn to generate: whose it is, what comes before it, and the right answer as the template writes it."""

    skill: str
    case: int
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...]
    expected: str

    @property
    def prompt(self) -> str:
        """The prompt as the model reads it."""
        return render(self.messages, self.tools, add_generation_prompt=True)


@dataclass(frozen=True)
class Miss:
    """A turn that came out wrong."""

    turn: Turn
    generated: str


def held_out_cases(skill: str, count: int, seed: str = "evaluation", *, unusual: bool = False) -> list[Case]:
    """Returns generated cases of `skill` with held-out words that fit the model's context.

    Args:
        skill: The skill.
        count: How many.
        seed: Equal seeds give equal cases.
        unusual: Whether words are often spliced or in other scripts; else they are names and nouns of ordinary text.
    """
    vocabulary, at = tokenizer.load(), 0
    cases: list[Case] = []
    while len(cases) < count:
        case = skills.make(skill, Draw(f"{seed}:{skill}:{at}", "held_out", MOST_QUESTIONS, unusual=unusual))
        if len(vocabulary.encode(render(case.messages, case.tools)).ids) <= SHAPE.context_tokens:
            cases.append(case)
        at += 1
    return cases


def turns_of(case: Case, number: int) -> list[Turn]:
    """Returns the graded turns of `case`."""
    return [
        Turn(case.skill, number, case.messages[:at], case.tools, answer_text(case.messages[at])) for at in case.graded()
    ]


def generate(folder: Path, conversations: Sequence[tuple[Sequence[Message], Sequence[Tool]]]) -> list[str]:
    """Returns the greedy answer to each conversation, as the template writes it.

    Args:
        folder: A model folder.
        conversations: Messages in the OpenAI form and the tools that are offered.

    Returns:
        One text for each conversation, in order.
    """
    runtime = Runtime()
    backend = runtime.chat(folder)

    def answer(conversation: tuple[Sequence[Message], Sequence[Tool]]) -> str:
        try:
            given = ChatResult.join(backend.stream(request_of(*conversation)))
        except OutputError as error:
            return error.partial_text
        calls = [(call.name, dict(call.arguments)) for call in given.tool_calls]
        broken = "".join(call.arguments for call in given.invalid_tool_calls)
        return answer_text({**calling(*calls), "content": given.text + broken}).strip()

    with ThreadPoolExecutor(_ROWS) as pool:
        answers = list(pool.map(answer, conversations))
    runtime.close()
    return answers


def request_of(messages: Sequence[Message], tools: Sequence[Tool]) -> ChatRequest:
    """Returns the request that a user would make: a schema in the system message becomes the answer's format."""
    output = None
    converted: list[ChatMessage] = []
    for message in messages:
        content = message["content"]
        if message["role"] == "system" and schemas.CONTRACT in content:
            content, _, schema = content.partition(schemas.CONTRACT)
            output = JsonSchemaFormat(schema=json.loads(schema))
            content = content.strip()
            if not content:
                continue
        calls = [call["function"] for call in message.get("tool_calls", ())]
        converted.append(
            ChatMessage(
                role=message["role"],
                content=content,
                name=message.get("name") or None,
                tool_calls=tuple(
                    ToolCall(id=f"call_{at}", name=call["name"], arguments=call["arguments"])
                    for at, call in enumerate(calls)
                ),
            )
        )
    offered = [tool["function"] for tool in tools]
    return ChatRequest(
        messages=tuple(converted),
        tools=tuple(
            ToolSpec(name=t["name"], description=t["description"], parameters=t["parameters"]) for t in offered
        ),
        output=output,
        sampling=SamplingParams(temperature=0.0, max_tokens=_MOST_NEW_TOKENS),
    )


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
    figures: dict[str, Any] = {"seed": seed, "cases_per_skill": cases_per_skill}
    missed: list[Miss] = []
    for words, unusual in (("skills", False), ("unusual_words", True)):
        cases = [
            case for skill in skills.SKILLS for case in held_out_cases(skill, cases_per_skill, seed, unusual=unusual)
        ]
        turns = [turn for number, case in enumerate(cases) for turn in turns_of(case, number)]
        answers = generate(folder, [(turn.messages, turn.tools) for turn in turns])
        misses = [Miss(turn, text) for turn, text in zip(turns, answers, strict=True) if text != turn.expected.strip()]
        figures[words] = _accuracy(cases, {miss.turn.case for miss in misses})
        missed += misses
    return figures, missed


def _accuracy(cases: Sequence[Case], failed: set[int]) -> dict[str, dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    for skill in skills.SKILLS:
        numbers = [number for number, case in enumerate(cases) if case.skill == skill]
        right = sum(number not in failed for number in numbers)
        rows[skill] = {"cases": len(numbers), "right": right, "accuracy": round(right / len(numbers), 3)}
    return rows


def table(figures: dict[str, Any]) -> str:
    """Returns the figures as a Markdown table."""
    lines = ["| skill | cases | right | accuracy | with unusual words |", "|---|---|---|---|---|"]
    for skill, row in figures["skills"].items():
        unusual = figures["unusual_words"][skill]["accuracy"]
        name = skill.replace("_", " ")
        lines.append(f"| {name} | {row['cases']} | {row['right']} | {row['accuracy']:.1%} | {unusual:.1%} |")
    return "\n".join(lines)


def write(figures: dict[str, Any], folder: Path = MODEL_FOLDER) -> None:
    """Writes the figures to evaluation.json in `folder`."""
    (folder / "evaluation.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
