"""LangChain messages become the runtime's, and come back."""

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    FunctionMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.messages import (
    ChatMessage as RoleMessage,
)

from mlx_integrations.errors import InvalidRequestError, UnsupportedContentError
from mlx_integrations.langchain.messages import from_chat_message, to_chat_messages
from mlx_integrations.types import Attachment, ChatMessage, ToolCall

PNG = b"\x89PNG\r\n"
PNG_TEXT = base64.b64encode(PNG).decode()


def one(message: BaseMessage) -> ChatMessage:
    (translated,) = to_chat_messages([message])
    return translated


@pytest.mark.parametrize(
    ("message", "role"),
    [
        (SystemMessage("Hi"), "system"),
        (HumanMessage("Hi"), "user"),
        (AIMessage("Hi"), "assistant"),
        (AIMessageChunk(content="Hi"), "assistant"),
        (ToolMessage("Hi", tool_call_id="1"), "tool"),
        (RoleMessage(content="Hi", role="user"), "user"),
        (RoleMessage(content="Hi", role="assistant"), "assistant"),
        (RoleMessage(content="Hi", role="system"), "system"),
        (RoleMessage(content="Hi", role="developer"), "system"),
    ],
)
def test_every_message_has_a_role(message: BaseMessage, role: str) -> None:
    assert (one(message).role, one(message).content) == (role, "Hi")


def test_no_messages_stay_no_messages() -> None:
    assert to_chat_messages([]) == ()


def test_names_are_kept() -> None:
    assert one(HumanMessage("Hi", name="ada")).name == "ada"
    assert one(ToolMessage("Hi", tool_call_id="1", name="search")).name == "search"


@pytest.mark.parametrize(
    "message", [FunctionMessage(content="Hi", name="f"), RemoveMessage(id="1"), RoleMessage(content="", role="x")]
)
def test_a_message_that_no_model_can_read_is_refused(message: BaseMessage) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        one(message)
    assert caught.value.field == "messages" and "ToolMessage" in caught.value.hint


def test_text_blocks_of_a_user_are_separate_and_those_of_an_assistant_are_one_text() -> None:
    blocks: list[str | dict[str, Any]] = [
        {"type": "text", "text": "one", "cache_control": {"type": "ephemeral"}},
        "two",
        {"type": "text", "text": "three", "index": 3},
    ]
    assert one(HumanMessage(blocks)).content == "one\ntwo\nthree"
    assert one(AIMessage(blocks)).content == "onetwothree"


@pytest.mark.parametrize(
    "block",
    [
        {"type": "reasoning", "reasoning": "hm"},
        {"type": "thinking", "thinking": "hm", "signature": "x"},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
    ],
)
def test_reasoning_blocks_are_reasoning(block: dict[str, Any]) -> None:
    message = one(AIMessage([block, {"type": "redacted_thinking", "data": "x"}, {"type": "text", "text": "Yes."}]))
    assert (message.reasoning, message.content) == ("hm", "Yes.")


def test_a_refusal_of_another_model_is_its_text() -> None:
    assert one(AIMessage([{"type": "refusal", "refusal": "I will not."}])).content == "I will not."


def test_reasoning_of_a_former_answer_is_kept() -> None:
    assert one(AIMessage("Yes.", additional_kwargs={"reasoning_content": "hm"})).reasoning == "hm"
    assert one(AIMessage("Yes.")).reasoning is None


@pytest.mark.parametrize(
    "block",
    [
        {"type": "image", "base64": PNG_TEXT, "mime_type": "image/png"},
        {"type": "image", "source_type": "base64", "data": PNG_TEXT, "mime_type": "image/png"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG_TEXT}},
        {"type": "image", "data": PNG, "mime_type": "image/png"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG_TEXT}"}},
        {"type": "image_url", "image_url": f"data:image/png;base64,{PNG_TEXT}"},
    ],
)
def test_an_image_is_an_attachment_in_every_form(block: dict[str, Any]) -> None:
    message = one(HumanMessage([{"type": "text", "text": "What is this?"}, block]))
    assert message.content == "What is this?"
    assert message.attachments == (Attachment(kind="image", mime_type="image/png", data=PNG),)


@pytest.mark.parametrize(
    ("block", "attachment"),
    [
        (
            {"type": "image", "url": "https://example.com/a.png"},
            Attachment(kind="image", url="https://example.com/a.png"),
        ),
        (
            {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
            Attachment(kind="image", url="https://example.com/a.png"),
        ),
        (
            {"type": "audio", "base64": PNG_TEXT, "mime_type": "audio/wav"},
            Attachment(kind="audio", mime_type="audio/wav", data=PNG),
        ),
        (
            {"type": "input_audio", "input_audio": {"data": PNG_TEXT, "format": "mp3"}},
            Attachment(kind="audio", mime_type="audio/mp3", data=PNG),
        ),
        ({"type": "video", "url": "https://example.com/a"}, Attachment(kind="video", url="https://example.com/a")),
        (
            {"type": "file", "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{PNG_TEXT}"}},
            Attachment(kind="file", mime_type="application/pdf", data=PNG),
        ),
        (
            {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": PNG_TEXT}},
            Attachment(kind="file", mime_type="application/pdf", data=PNG),
        ),
        (
            {"type": "text-plain", "url": "https://example.com/a.txt", "mime_type": "text/plain"},
            Attachment(kind="file", mime_type="text/plain", url="https://example.com/a.txt"),
        ),
    ],
)
def test_audio_video_and_files_are_attachments(block: dict[str, Any], attachment: Attachment) -> None:
    assert one(HumanMessage([block])).attachments == (attachment,)


@pytest.mark.parametrize(
    "block",
    [
        {"type": "text-plain", "text": "the text", "mime_type": "text/plain"},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "the text"}},
        {"type": "file", "source_type": "text", "text": "the text"},
    ],
)
def test_a_document_that_is_text_is_text(block: dict[str, Any]) -> None:
    message = one(HumanMessage([block]))
    assert (message.content, message.attachments) == ("the text", ())


def test_a_file_that_was_uploaded_to_a_provider_is_refused() -> None:
    with pytest.raises(UnsupportedContentError, match="uploaded") as caught:
        one(HumanMessage([{"type": "file", "file_id": "file-1"}]))
    assert caught.value.kind == "file"


@pytest.mark.parametrize(
    "block",
    [
        {"type": "hologram"},
        {"no": "type"},
        {"type": "text"},
        {"type": "image"},
        {"type": "image_url", "image_url": {}},
        {"type": "input_audio"},
        {"type": "image", "base64": "not base64!"},
        {"type": "tool_use", "name": "f", "input": "x"},
    ],
)
def test_a_block_that_is_unknown_or_broken_is_refused(block: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        one(HumanMessage([block]))
    assert caught.value.field == "messages"


def test_calls_keep_their_ids_and_get_one_where_they_have_none() -> None:
    message = AIMessage(
        "",
        tool_calls=[{"name": "f", "args": {"x": 1}, "id": "a"}, {"name": "g", "args": {}, "id": None}],
    )
    assert one(message).tool_calls == (
        ToolCall(id="a", name="f", arguments={"x": 1}),
        ToolCall(id="call_1", name="g", arguments={}),
    )


def test_a_call_that_is_a_block_as_well_is_one_call() -> None:
    blocks: list[str | dict[str, Any]] = [
        {"type": "text", "text": "Wait."},
        {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}},
        {"type": "tool_call", "id": "b", "name": "g", "args": {}},
    ]
    with_both = AIMessage(blocks, tool_calls=[{"name": "f", "args": {"x": 1}, "id": "a"}])
    expected = (ToolCall(id="a", name="f", arguments={"x": 1}), ToolCall(id="b", name="g", arguments={}))
    assert one(with_both).tool_calls == one(AIMessage(blocks)).tool_calls == expected
    assert one(with_both).content == "Wait."


def test_a_tool_result_inside_a_users_message_is_a_tools_answer() -> None:
    result = {"type": "tool_result", "tool_use_id": "a", "content": [{"type": "text", "text": "green"}]}
    failed = {"type": "tool_result", "tool_use_id": "b", "content": "no such colour", "is_error": True}
    answers = to_chat_messages([HumanMessage([result, failed, {"type": "text", "text": "Which one?"}])])
    assert [(item.role, item.content, item.tool_call_id) for item in answers] == [
        ("tool", "green", "a"),
        ("tool", "Error: no such colour", "b"),
        ("user", "Which one?", None),
    ]
    assert [item.role for item in to_chat_messages([HumanMessage([result])])] == ["tool"]


def test_an_invalid_call_is_shown_as_text_with_its_error() -> None:
    invalid = {"name": "f", "args": '{"x": ', "id": "a", "error": "it ends too early", "type": "invalid_tool_call"}
    message = one(AIMessage("Wait.", invalid_tool_calls=[invalid]))
    assert message.tool_calls == ()
    assert message.content == 'Wait.\n[invalid call of `f` (it ends too early): {"x": ]'


def test_an_invalid_call_without_a_name_or_error_is_shown_too() -> None:
    message = one(AIMessage("", invalid_tool_calls=[{"name": None, "args": None, "id": None, "error": None}]))
    assert message.content == "[invalid call of `unnamed tool`: ]"


@pytest.mark.parametrize(
    ("content", "status", "expected"),
    [
        ("42", "success", "42"),
        ("no such city", "error", "Error: no such city"),
        ("Error: no such city", "error", "Error: no such city"),
        ([{"type": "text", "text": "4"}, "2"], "success", "4\n2"),
        ([{"temperature": 21, "city": "Zürich"}], "success", '{"temperature": 21, "city": "Zürich"}'),
        ([{"type": "json", "json": {"a": 1}}], "success", '{"type": "json", "json": {"a": 1}}'),
        ("caf\udce9", "success", "caf\udce9"),
    ],
)
def test_a_tools_answer_is_text(content: Any, status: Any, expected: str) -> None:
    message = one(ToolMessage(content, tool_call_id="1", status=status, artifact=object()))
    assert (message.role, message.content, message.tool_call_id) == ("tool", expected, "1")


def test_a_picture_among_a_tools_answers_is_an_attachment() -> None:
    message = one(ToolMessage([{"type": "image", "base64": PNG_TEXT}], tool_call_id="1"))
    assert message.attachments == (Attachment(kind="image", data=PNG),)


texts = st.text(max_size=20)
calls = st.builds(
    ToolCall,
    id=st.uuids().map(str),
    name=st.sampled_from(["f", "g"]),
    arguments=st.dictionaries(texts, st.integers() | texts | st.none() | st.booleans(), max_size=3),
)
attachments = st.builds(
    Attachment,
    kind=st.sampled_from(["image", "audio", "video", "file"]),
    data=st.binary(min_size=1, max_size=9),
    mime_type=st.none() | st.just("application/x-own"),
) | st.builds(Attachment, kind=st.sampled_from(["image", "file"]), url=st.just("https://example.com/a"))
chat_messages = (
    st.builds(ChatMessage, role=st.sampled_from(["system", "user"]), content=texts, name=st.none() | texts)
    | st.builds(ChatMessage, role=st.just("user"), content=texts, attachments=st.lists(attachments).map(tuple))
    | st.builds(ChatMessage, role=st.just("tool"), content=texts, tool_call_id=texts)
    | st.builds(
        ChatMessage,
        role=st.just("assistant"),
        content=texts,
        reasoning=st.none() | texts,
        tool_calls=st.lists(calls, unique_by=lambda call: call.id).map(tuple),
    )
)


@given(message=chat_messages)
def test_a_message_comes_back_as_it_went(message: ChatMessage) -> None:
    assert to_chat_messages([from_chat_message(message)]) == (message,)
