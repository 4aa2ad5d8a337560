"""The shipped demo model does what its card says, on cases whose words it has never seen."""

import json
from collections import defaultdict
from functools import cache
from typing import Any

import pytest

from mlx_integrations.demo.recipe import card, skills
from mlx_integrations.demo.recipe.case import Message, Tool, assistant, calling, result, system, tool, user
from mlx_integrations.demo.recipe.evaluate import Turn, generate, held_out_cases, turns_of
from mlx_integrations.demo.recipe.render import MODEL_FOLDER
from mlx_integrations.demo.recipe.shape import SHAPE

CASES_PER_SKILL = 15
# Fifteen cases are few: as many more misses than measured are luck.
MISSES_BY_LUCK = 4
EVALUATION: dict[str, Any] = json.loads((MODEL_FOLDER / "evaluation.json").read_text(encoding="utf-8"))
STRING = {"type": "string"}
WEATHER = tool("get_weather", "Get the weather in a city.", {"city": STRING})
CALCULATOR = tool("calculator", "Evaluate an arithmetic expression.", {"expression": STRING})


@cache
def misses() -> dict[str, int]:
    """Returns how many of a few held-out cases of each skill come out wrong."""
    turns: list[Turn] = []
    for skill in skills.SKILLS:
        for number, case in enumerate(held_out_cases(skill, CASES_PER_SKILL, "test")):
            turns += turns_of(case, number)
    answers = generate(MODEL_FOLDER, [(turn.messages, turn.tools) for turn in turns])
    wrong: dict[str, set[int]] = defaultdict(set)
    for turn, text in zip(turns, answers, strict=True):
        if text != turn.expected.strip():
            wrong[turn.skill].add(turn.case)
    return {skill: len(wrong[skill]) for skill in skills.SKILLS}


@pytest.mark.parametrize("skill", sorted(skills.SKILLS))
def test_few_held_out_cases_come_out_wrong(skill: str) -> None:
    expected = CASES_PER_SKILL * (1 - EVALUATION["skills"][skill]["accuracy"])
    assert misses()[skill] <= expected + MISSES_BY_LUCK


@pytest.mark.parametrize("skill", sorted(skills.SKILLS))
def test_most_measured_cases_came_out_right(skill: str) -> None:
    measured = EVALUATION["skills"][skill]
    assert measured["cases"] >= 50
    assert measured["accuracy"] >= 0.85


def test_the_model_is_small() -> None:
    assert sum(path.stat().st_size for path in MODEL_FOLDER.iterdir()) <= 8_000_000


def test_the_card_is_written_from_the_recorded_figures() -> None:
    assert (MODEL_FOLDER / "README.md").read_text(encoding="utf-8") == card.card()
    for row in EVALUATION["skills"].values():
        assert f"| {row['cases']} | {row['right']} | {row['accuracy']:.1%} |" in card.card()


def test_the_configuration_is_the_recipe_s() -> None:
    assert json.loads((MODEL_FOLDER / "config.json").read_text(encoding="utf-8")) == SHAPE.config()
    assert json.loads((MODEL_FOLDER / "generation_config.json").read_text(encoding="utf-8"))["do_sample"] is False


def test_mlx_lm_finds_the_tool_parser() -> None:
    from mlx_lm import load

    tokenizer = load(str(MODEL_FOLDER))[1]
    assert tokenizer.has_tool_calling
    call = '\n{"name": "get_weather", "arguments": {"city": "東京"}}\n'
    assert tokenizer.tool_parser(call, [WEATHER]) == {"name": "get_weather", "arguments": {"city": "東京"}}


CONTACT = {
    "properties": {"name": {"title": "Name", "type": "string"}, "age": {"title": "Age", "type": "integer"}},
    "required": ["name", "age"],
    "title": "Contact",
    "type": "object",
}
LIBRARY = "The library opens at 8:30. A library card costs 12 euros. The cafe is on the third floor."
WEATHER_ASKED = user("What is the weather in Oslo?")
WEATHER_CALLED = [WEATHER_ASKED, calling(("get_weather", {"city": "Oslo"})), result("sunny")]
NAME_TOLD = [user("My name is Zoë."), assistant("Nice to meet you, Zoë!"), user("What is my name?")]
SCHEMA_GIVEN = [
    system("Reply with JSON that matches this JSON Schema:\n" + json.dumps(CONTACT)),
    user("Zoë is 31 years old."),
]
EVERYDAY: tuple[tuple[list[Message], list[Tool], str], ...] = (
    ([user("Hello")], [], "Hello! How can I help you?"),
    ([WEATHER_ASKED], [WEATHER, CALCULATOR], '"arguments": {"city": "Oslo"}'),
    (WEATHER_CALLED, [WEATHER], "The weather in Oslo is sunny."),
    ([user("What is 12 * (3 + 4.5)?")], [WEATHER, CALCULATOR], '"arguments": {"expression": "12 * (3 + 4.5)"}'),
    ([user(f"Context: {LIBRARY}\n\nQuestion: When does the library open?")], [], "8:30"),
    (NAME_TOLD, [], "Your name is Zoë."),
    (SCHEMA_GIVEN, [], '{"name": "Zoë", "age": 31}'),
)


def test_everyday_prompts_get_the_expected_answers() -> None:
    answers = generate(MODEL_FOLDER, [(messages, tools) for messages, tools, _ in EVERYDAY])
    assert [(wanted, got) for (_, _, wanted), got in zip(EVERYDAY, answers, strict=True) if wanted not in got] == []
