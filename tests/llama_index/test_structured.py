"""Answers that are objects."""

from typing import Any

import pytest
from llama_index.core import PromptTemplate
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.types import PydanticProgramMode
from pydantic import BaseModel, field_validator

from mlx_integrations.errors import InvalidRequestError
from mlx_integrations.llama_index.errors import InvalidOutputError, TruncatedOutputError
from mlx_integrations.types import JsonObjectFormat, JsonSchemaFormat, RegexFormat, ToolCall
from tests.llama_index.fakes import fake_llm

PROMPT = PromptTemplate("Who is {name}?")


class Contact(BaseModel):
    """A person."""

    name: str
    tags: list[str]

    @field_validator("name")
    @classmethod
    def _check_name(cls, value: str) -> str:
        if value == "nobody":
            raise ValueError("nobody has no contact")
        return value


JSON = '{"name": "Clara Lang", "tags": ["a", "b"]}'
CLARA = Contact(name="Clara Lang", tags=["a", "b"])


async def test_every_form_gives_the_object() -> None:
    llm, backend = fake_llm(JSON)
    assert llm.structured_predict(Contact, PROMPT, name="Clara") == CLARA
    assert await llm.astructured_predict(Contact, PROMPT, name="Clara") == CLARA
    assert list(llm.stream_structured_predict(Contact, PROMPT, name="Clara"))[-1] == CLARA
    pieces = [piece async for piece in await llm.astream_structured_predict(Contact, PROMPT, name="Clara")]
    assert pieces[-1] == CLARA
    for request in backend.requests:
        assert request.output == JsonSchemaFormat(schema=Contact.model_json_schema(), name="Contact")
        assert [message.content for message in request.messages] == ["Who is Clara?"]
        assert request.tools == ()


def test_a_streamed_object_grows() -> None:
    pieces: list[Any] = list(fake_llm(JSON)[0].stream_structured_predict(Contact, PROMPT, name="Clara"))
    assert [(piece.name, piece.tags) for piece in pieces] == [
        ("Clara", None),
        ("Clara Lang", None),
        ("Clara Lang", ["a"]),
        ("Clara Lang", ["a", "b"]),
        ("Clara Lang", ["a", "b"]),
    ]
    assert isinstance(pieces[-1], Contact)


async def test_a_structured_llm_answers_chats() -> None:
    llm, backend = fake_llm(JSON)
    structured = llm.as_structured_llm(Contact)
    messages = [ChatMessage(content="Who is {Clara}?")]
    assert structured.chat(messages).raw == CLARA
    assert (await structured.achat(messages)).raw == CLARA
    assert structured.complete("Who?").raw == CLARA
    assert [piece.raw for piece in structured.stream_chat(messages)][-1] == CLARA
    assert backend.requests[0].output is not None


def test_options_of_the_call_count_and_those_of_tools_are_dropped() -> None:
    llm, backend = fake_llm(JSON, system_prompt="Be exact.")
    llm.structured_predict(Contact, PROMPT, {"temperature": 0.5, "tool_required": True, "tool_choice": "x"}, name="C")
    assert backend.requests[0].sampling.temperature == 0.5
    assert [message.content for message in backend.requests[0].messages] == ["Be exact.", "Who is C?"]


async def test_an_answer_that_was_cut_says_so() -> None:
    llm, _ = fake_llm(JSON)
    with pytest.raises(TruncatedOutputError) as caught:
        llm.structured_predict(Contact, PROMPT, {"max_tokens": 2}, name="Clara")
    assert caught.value.partial_text == '{"name": "Clara'
    with pytest.raises(TruncatedOutputError):
        await llm.astructured_predict(Contact, PROMPT, {"max_tokens": 2}, name="Clara")
    with pytest.raises(TruncatedOutputError):
        list(llm.stream_structured_predict(Contact, PROMPT, {"max_tokens": 2}, name="Clara"))


@pytest.mark.parametrize("text", ["No.", '{"name": 3}', '{"name": "nobody", "tags": []}', "[]", ""])
def test_an_answer_of_another_shape_is_an_error_with_the_text(text: str) -> None:
    with pytest.raises(InvalidOutputError) as caught:
        fake_llm(text)[0].structured_predict(Contact, PROMPT, name="Clara")
    assert caught.value.partial_text == text
    assert isinstance(caught.value, ValueError)


async def test_another_program_mode_is_llama_indexs_own_affair() -> None:
    call = ToolCall(id="1", name="Contact", arguments=CLARA.model_dump())
    llm, backend = fake_llm(call, pydantic_program_mode=PydanticProgramMode.FUNCTION)
    assert llm.structured_predict(Contact, PROMPT, name="Clara") == CLARA
    assert await llm.astructured_predict(Contact, PROMPT, name="Clara") == CLARA
    assert backend.requests[0].tool_choice.mode == "any" and backend.requests[0].output is None
    by_text, backend = fake_llm(JSON, pydantic_program_mode=PydanticProgramMode.LLM)
    assert by_text.structured_predict(Contact, PROMPT, name="Clara") == CLARA
    assert backend.requests[0].output is None


def test_other_formats_are_options_of_a_call() -> None:
    llm, backend = fake_llm("{}")
    llm.complete("?", response_format={"type": "json_object"})
    llm.complete("?", response_format={"type": "regex", "pattern": "[0-9]+"})
    llm.complete("?", response_format=Contact)
    assert [request.output for request in backend.requests] == [
        JsonObjectFormat(),
        RegexFormat(pattern="[0-9]+"),
        JsonSchemaFormat(schema=Contact.model_json_schema(), name="Contact"),
    ]
    for wrong in ("json", {"type": "xml"}, int):
        with pytest.raises(InvalidRequestError) as caught:
            llm.complete("?", response_format=wrong)
        assert caught.value.field == "response_format"
