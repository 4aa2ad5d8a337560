"""The recipe of the demo model: deterministic text, split by vocabulary, rendered through the real template."""

import json
import re
from dataclasses import asdict

import pytest
from transformers import PreTrainedTokenizerFast

from mlx_integrations.demo.recipe import phases, skills, tokenizer, toolkinds, words
from mlx_integrations.demo.recipe.case import Case, assistant, calling, result, system, tool, user
from mlx_integrations.demo.recipe.draw import Draw
from mlx_integrations.demo.recipe.evaluate import MOST_QUESTIONS, held_out_cases, turns_of
from mlx_integrations.demo.recipe.render import MODEL_FOLDER, answer_text, render
from mlx_integrations.demo.recipe.words import Split

SKILLS = sorted(skills.SKILLS)
_LISTED = "FIRST_NAMES CITIES NOUNS ADJECTIVES COLOURS FOODS ANIMALS JOBS HOBBIES TOPICS COUNTRIES".split()
LISTS = {name: getattr(words, name) for name in _LISTED}


def cases(skill: str, split: Split, count: int = 60) -> list[Case]:
    return [skills.make(skill, Draw(at, split)) for at in range(count)]


@pytest.fixture(scope="module")
def shipped() -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast.from_pretrained(str(MODEL_FOLDER))


@pytest.mark.parametrize("skill", SKILLS)
def test_equal_seeds_give_equal_cases(skill: str) -> None:
    assert [asdict(case) for case in cases(skill, "train", 20)] == [asdict(case) for case in cases(skill, "train", 20)]


@pytest.mark.parametrize("skill", SKILLS)
def test_cases_end_with_the_right_answer_and_have_something_to_grade(skill: str) -> None:
    for case in cases(skill, "train"):
        assert case.messages[-1]["role"] == "assistant"
        assert case.graded()


@pytest.mark.parametrize("name", sorted(LISTS))
def test_every_word_list_has_words_for_both_splits(name: str) -> None:
    held_out = [word for word in LISTS[name] if words.is_held_out(word)]
    assert 2 <= len(held_out) < len(LISTS[name]) / 2


def test_invented_words_never_belong_to_both_splits() -> None:
    train, held_out = Draw(1, "train"), Draw(1, "held_out")
    ours = {draw() for draw in (train.invented, train.letters, train.accented) for _ in range(500)}
    theirs = {draw() for draw in (held_out.invented, held_out.letters, held_out.accented) for _ in range(500)}
    assert ours.isdisjoint(theirs)


def test_names_and_things_never_belong_to_both_splits() -> None:
    def drawn(split: Split) -> set[str]:
        draw = Draw(2, split)
        kinds = (draw.first, draw.noun, draw.adjective, draw.colour, draw.food, draw.animal, draw.job, draw.topic)
        return {kind().lower() for kind in kinds for _ in range(300)}

    assert drawn("train").isdisjoint(drawn("held_out"))


@pytest.mark.parametrize("split", ["train", "held_out"])
@pytest.mark.parametrize("skill", SKILLS)
def test_every_case_renders_as_transformers_renders_it(
    skill: str, split: Split, shipped: PreTrainedTokenizerFast
) -> None:
    for case in cases(skill, split, 25):
        ours = render(case.messages, case.tools)
        theirs = shipped.apply_chat_template(list(case.messages), tools=list(case.tools) or None, tokenize=False)
        assert ours == theirs
        assert shipped.decode(shipped.encode(ours), skip_special_tokens=False) == ours


@pytest.mark.parametrize("skill", SKILLS)
def test_no_slot_is_left_unfilled(skill: str) -> None:
    for case in cases(skill, "train", 200):
        for message in case.messages:
            text = message["content"].split("JSON Schema:")[0]
            assert not re.search(r"\{[a-z]+\d?\}", text), text


@pytest.mark.parametrize("skill", ["tool_choice", "tool_results", "agents"])
def test_calls_name_an_offered_tool_and_give_its_required_arguments(skill: str) -> None:
    for case in cases(skill, "held_out", 150):
        offered = {tool["function"]["name"]: tool["function"]["parameters"] for tool in case.tools}
        assert len(offered) == len(case.tools)
        for message in case.messages:
            blocks = re.findall(r"<tool_call>\n(.*?)\n</tool_call>", answer_text(message), re.DOTALL)
            assert len(blocks) == len(message.get("tool_calls", ()))
            for block in blocks:
                call = json.loads(block)
                parameters = offered[call["name"]]
                assert set(parameters["required"]) <= set(call["arguments"]) <= set(parameters["properties"])


def test_filled_schemas_have_the_keys_of_the_schema_in_order() -> None:
    for case in cases("schemas", "train", 150):
        schema = json.loads(case.messages[0]["content"].split("JSON Schema:\n")[1].split("\n\nTools:")[0])
        record = json.loads(case.messages[-1]["content"])
        assert list(record) == list(schema["properties"])
        assert set(schema["required"]) <= set(record)


def test_a_turn_is_generated_after_the_right_earlier_turns() -> None:
    case = Case("agents", (user("a"), calling(("f", {"x": 1})), result("2"), assistant("It is 2.")))
    first, second = turns_of(case, 0)
    assert first.expected == '<tool_call>\n{"name": "f", "arguments": {"x": 1}}\n</tool_call>'
    assert second.prompt == first.prompt + first.expected + (
        "<|im_end|>\n<|im_start|>tool\n<tool_response>\n2\n</tool_response><|im_end|>\n<|im_start|>assistant\n"
    )


def test_evaluation_cases_come_from_the_held_out_split_and_fit_the_context(shipped: PreTrainedTokenizerFast) -> None:
    cases = held_out_cases("passages", 40)
    assert cases[0] == skills.make("passages", Draw("evaluation:passages:0", "held_out", MOST_QUESTIONS, unusual=False))
    assert all(len(shipped.encode(render(case.messages))) <= 1024 for case in cases)


class TestTemplate:
    def test_tools_are_one_line_each(self) -> None:
        properties = {
            "city": {"type": "string", "description": "The city.\nMore."},
            "unit": {"type": "string", "enum": ["c", "f"]},
        }
        text = render(
            [system("Hi."), user("x")], [tool("get_weather", "The weather.\n\nArgs: city", properties, ["city"])]
        )
        assert "Hi.\n\nTools:\n- get_weather(city: string = The city., unit?: c|f): The weather.<|im_end|>" in text

    @pytest.mark.parametrize(
        ("schema", "shown"),
        [
            ({"type": "array", "items": {"type": "integer"}}, "array of integer"),
            ({"anyOf": [{"type": "number"}, {"type": "null"}]}, "number|null"),
            ({"type": ["string", "null"]}, "string|null"),
            ({"$ref": "#/$defs/Place"}, '{"$ref": "#/$defs/Place"}'),
            ({"type": "object", "properties": {"a": {}}}, '{"type": "object", "properties": {"a": {}}}'),
            ({}, "{}"),
            ({"type": "array"}, "array"),
        ],
    )  # fmt: skip
    def test_any_parameter_can_be_shown(self, schema: dict[str, object], shown: str) -> None:
        assert f"- f(x: {shown})<|im_end|>" in render([user("x")], [tool("f", "", {"x": schema})])

    def test_a_tool_without_parameters_or_description_is_a_bare_name(self) -> None:
        assert "- f()<|im_end|>" in render([user("x")], [{"type": "function", "function": {"name": "f"}}])

    def test_calls_may_lack_the_wrapper_or_come_as_text(self) -> None:
        bare = {"role": "assistant", "content": None, "tool_calls": [{"name": "f", "arguments": '{"x": 1}'}]}
        assert answer_text(bare) == answer_text(calling(("f", {"x": 1})))

    def test_text_before_calls_is_kept(self) -> None:
        message = calling(("f", {}), ("g", {"é": "東京"}))
        message["content"] = "Let me see."
        assert answer_text(message) == (
            'Let me see.\n<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>\n'
            '<tool_call>\n{"name": "g", "arguments": {"é": "東京"}}\n</tool_call>'
        )

    def test_content_blocks_are_joined(self) -> None:
        assert render([user("ab")]) == render([{"role": "user", "content": [{"type": "text", "text": "a"}, "b"]}])


class TestTokenizer:
    def test_words_have_the_same_tokens_with_and_without_a_blank(self, shipped: PreTrainedTokenizerFast) -> None:
        for word in ("Oslo", "notebook", "Zörblat", "東京", "thelma"):
            alone, after = shipped.tokenize(word), shipped.tokenize(f" {word}")
            assert after == ["Ġ", *alone]

    def test_every_digit_is_a_token(self, shipped: PreTrainedTokenizerFast) -> None:
        assert shipped.tokenize("3.1415") == ["3", ".", "1", "4", "1", "5"]

    @pytest.mark.parametrize("marker", ["<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"])
    def test_tool_markers_are_one_token_and_survive_decoding(
        self, marker: str, shipped: PreTrainedTokenizerFast
    ) -> None:
        (token,) = shipped.encode(marker)
        assert shipped.decode([token], skip_special_tokens=True) == marker

    @pytest.mark.parametrize(
        "text", ["", "  two  blanks\n\ttab", "Zoë, 東京, 🐱🏽‍🚀 \u202e\u0000", "naïve “quotes” — ½ ﬁ"]
    )
    def test_any_text_round_trips(self, text: str, shipped: PreTrainedTokenizerFast) -> None:
        assert shipped.decode(shipped.encode(text)) == text


def test_tool_kinds_are_well_formed() -> None:
    for kind in toolkinds.KINDS:
        slots = [param.slot for param in kind.params]
        for ask in kind.asks:
            if not isinstance(ask, str):
                assert len(ask) == 1 + len(slots)
        for again in kind.again:
            assert len(kind.params) == 1 and again


def test_phases_have_their_own_seeds_and_fit_the_context() -> None:
    assert len({phase.seed for phase in phases.PHASES}) == len(phases.PHASES)
    assert all(phase.longest_tokens <= 1024 for phase in phases.PHASES)


def test_the_turn_end_is_special(shipped: PreTrainedTokenizerFast) -> None:
    assert shipped.eos_token == tokenizer.TURN_END
    assert shipped.decode(shipped.encode("a<|im_end|>"), skip_special_tokens=True) == "a"
