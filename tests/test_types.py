"""The records that cross rooms are frozen, hold no shared state, and join into answers."""

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_integrations import types
from mlx_integrations.types import ChatChunk, ChatMessage, ChatRequest, ChatResult, Finish, ToolCall, Usage

FINISH = Finish(reason="stop", usage=Usage(prompt_tokens=3, completion_tokens=5), generation_seconds=2.0)
RECORDS: list[Any] = [
    cls for name in types.__all__ if dataclasses.is_dataclass(cls := getattr(types, name)) and isinstance(cls, type)
]


@pytest.mark.parametrize("cls", RECORDS, ids=lambda cls: cls.__name__)
def test_a_record_is_frozen_and_takes_keywords_only(cls: Any) -> None:
    assert cls.__dataclass_params__.frozen
    assert all(field.kw_only for field in dataclasses.fields(cls))
    assert "__slots__" in vars(cls)


def test_a_stream_joins_into_one_answer() -> None:
    call = ToolCall(id="1", name="add", arguments={"a": 1})
    chunks = [
        ChatChunk(reasoning="hm "),
        ChatChunk(text="Hel"),
        ChatChunk(text="lo"),
        ChatChunk(tool_calls=(call,)),
        ChatChunk(finish=FINISH),
    ]
    result = ChatResult.join(iter(chunks))
    assert (result.text, result.reasoning, result.tool_calls, result.finish) == ("Hello", "hm ", (call,), FINISH)


@given(st.text(), st.integers(min_value=1, max_value=7))
def test_joining_gives_back_the_text_however_it_was_cut(text: str, size: int) -> None:
    pieces = [ChatChunk(text=text[start : start + size]) for start in range(0, len(text), size)]
    assert ChatResult.join([*pieces, ChatChunk(finish=FINISH)]).text == text


@pytest.mark.parametrize("chunks", [[], [ChatChunk(text="cut off")]])
def test_a_stream_without_its_end_is_not_an_answer(chunks: list[ChatChunk]) -> None:
    with pytest.raises(ValueError, match="finish"):
        ChatResult.join(chunks)


def test_tokens_per_second_counts_the_steps_after_the_first_token() -> None:
    assert FINISH.tokens_per_second == 2.0


@pytest.mark.parametrize(("tokens", "seconds"), [(0, 1.0), (1, 1.0), (5, 0.0)])
def test_tokens_per_second_is_zero_when_nothing_can_be_measured(tokens: int, seconds: float) -> None:
    usage = Usage(prompt_tokens=1, completion_tokens=tokens)
    assert Finish(reason="stop", usage=usage, generation_seconds=seconds).tokens_per_second == 0.0


def test_two_requests_share_no_options() -> None:
    message = ChatMessage(role="user", content="hi")
    first, second = ChatRequest(messages=(message,)), ChatRequest(messages=(message,))
    assert first.template_options is not second.template_options
