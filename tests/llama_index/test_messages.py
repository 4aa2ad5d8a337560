"""Messages of LlamaIndex in both directions."""

import base64
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.base.llms.types import (
    AudioBlock,
    CacheControl,
    CachePoint,
    ChatMessage,
    CitableBlock,
    CitationBlock,
    DocumentBlock,
    ImageBlock,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
    VideoBlock,
)

from mlx_integrations import types
from mlx_integrations.errors import InvalidRequestError, UnsupportedContentError
from mlx_integrations.llama_index import MLXLLM
from mlx_integrations.llama_index.messages import from_chat_message, to_chat_messages
from mlx_integrations.types import Attachment, ToolCall
from tests.llama_index.fakes import fake_llm
from tests.scripts import ADD, BROKEN, EVERYTHING

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def translated(message: ChatMessage) -> types.ChatMessage:
    (result,) = to_chat_messages([message])
    return result


@pytest.mark.parametrize(
    ("role", "ours"),
    [
        ("system", "system"),
        ("developer", "system"),
        ("user", "user"),
        ("assistant", "assistant"),
        ("chatbot", "assistant"),
        ("model", "assistant"),
        ("tool", "tool"),
        ("function", "tool"),
    ],
)
def test_every_role_has_a_place(role: str, ours: str) -> None:
    assert translated(ChatMessage(role=role, content="x")).role == ours
    assert len(MessageRole) == 8


def test_texts_are_joined_as_llama_index_joins_them() -> None:
    message = ChatMessage(blocks=[TextBlock(text="a"), TextBlock(text="b")])
    assert translated(message).content == message.content == "a\nb"
    assert translated(ChatMessage(role="user")).content == ""


def test_a_tools_answer_keeps_the_id_of_its_call() -> None:
    message = ChatMessage(role="tool", content="3", additional_kwargs={"tool_call_id": "call_1", "name": "add"})
    assert translated(message) == types.ChatMessage(role="tool", content="3", tool_call_id="call_1", name="add")


def test_thoughts_and_calls_of_an_answer_go_back_to_the_model() -> None:
    llm, backend = fake_llm(EVERYTHING, "Done.")
    question = ChatMessage(content="Hi")
    answer = llm.chat([question]).message
    llm.chat([question, answer, ChatMessage(role="tool", content="3", additional_kwargs={"tool_call_id": "call_1"})])
    sent = backend.requests[1].messages[1]
    assert sent.reasoning == "Let me think." and sent.tool_calls == EVERYTHING.tool_calls
    assert sent.content.startswith(EVERYTHING.text)
    assert f"[invalid call of `add` ({BROKEN.error}): {BROKEN.arguments}]" in sent.content


def test_calls_of_other_models_are_read_as_they_left_them() -> None:
    block = ToolCallBlock(tool_name="add", tool_kwargs='{"a": 1, "b": 2}')
    assert translated(ChatMessage(role="assistant", blocks=[block])).tool_calls == (
        ToolCall(id="call_0", name="add", arguments={"a": 1, "b": 2}),
    )
    older = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1, "b": 2}'}}
    message = ChatMessage(role="assistant", content=None, additional_kwargs={"tool_calls": [older]})
    assert translated(message).tool_calls == (ADD,)


@pytest.mark.parametrize("arguments", ["not json", "[1]", "3"])
def test_arguments_that_are_no_object_are_refused(arguments: str) -> None:
    block = ToolCallBlock(tool_name="add", tool_kwargs=arguments)
    with pytest.raises(InvalidRequestError, match="`add` has arguments that are no JSON object"):
        to_chat_messages([ChatMessage(role="assistant", blocks=[block])])


def test_other_kinds_of_content_become_attachments(tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    picture.write_bytes(PNG)
    blocks: list[Any] = [
        ImageBlock(image=PNG),
        ImageBlock(path=picture),
        ImageBlock(url="https://example.org/a.png"),
        AudioBlock(audio=b"RIFF0000WAVEfmt ", format="wav"),
        VideoBlock(video=b"a film", video_mimetype="video/mp4"),
        DocumentBlock(data=b"%PDF-1.4", document_mimetype="application/pdf"),
    ]
    assert translated(ChatMessage(blocks=blocks)).attachments == (
        Attachment(kind="image", mime_type="image/png", data=PNG),
        Attachment(kind="image", mime_type="image/png", url=picture.as_uri()),
        Attachment(kind="image", mime_type="image/png", url="https://example.org/a.png"),
        Attachment(kind="audio", mime_type="audio/wav", data=b"RIFF0000WAVEfmt "),
        Attachment(kind="video", mime_type="video/mp4", data=b"a film"),
        Attachment(kind="file", mime_type="application/pdf", data=b"%PDF-1.4"),
    )


@pytest.mark.skipif(
    "IOBase" not in str(AudioBlock.model_fields["audio"].annotation), reason="llama-index-core takes files since 0.14.8"
)
def test_open_files_are_read() -> None:
    blocks: list[Any] = [AudioBlock(audio=BytesIO(b"a song"), format="mp3"), ImageBlock(image=BytesIO(PNG))]
    assert translated(ChatMessage(blocks=blocks)).attachments == (
        Attachment(kind="audio", mime_type="audio/mp3", data=b"a song"),
        Attachment(kind="image", data=PNG),
    )


@pytest.mark.parametrize("llm", [fake_llm()[0], MLXLLM("demo")], ids=["fake", "demo"])
async def test_a_text_model_refuses_an_image_by_name(llm: MLXLLM) -> None:
    messages = [ChatMessage(blocks=[TextBlock(text="What is this?"), ImageBlock(image=PNG)])]
    with pytest.raises(UnsupportedContentError) as caught:
        llm.chat(messages)
    assert caught.value.kind == "image"
    with pytest.raises(UnsupportedContentError):
        await llm.achat(messages)


def test_what_is_text_inside_is_read_as_text() -> None:
    blocks: list[Any] = [
        CitableBlock(title="t", source="s", content=[TextBlock(text="cited")]),
        CitationBlock(cited_content=TextBlock(text="quoted"), source="s", title="t", additional_location_info={}),
        DocumentBlock(data="naïve".encode(), document_mimetype="text/plain"),
        CachePoint(cache_control=CacheControl(type="ephemeral")),
    ]
    assert translated(ChatMessage(blocks=blocks)) == types.ChatMessage(role="user", content="cited\nquoted\nnaïve")


def test_an_empty_image_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="neither data nor a place"):
        to_chat_messages([ChatMessage(blocks=[ImageBlock()])])


@pytest.mark.parametrize(
    "message",
    [
        types.ChatMessage(role="system", content="s"),
        types.ChatMessage(role="user", content="u", name="ada"),
        types.ChatMessage(
            role="user", content="", attachments=(Attachment(kind="image", data=PNG, mime_type="image/png"),)
        ),
        types.ChatMessage(role="assistant", content="a", reasoning="r", tool_calls=(ADD,)),
        types.ChatMessage(role="assistant", tool_calls=(ADD,)),
        types.ChatMessage(role="tool", content="3", tool_call_id="call_1"),
    ],
)
def test_there_and_back_nothing_is_lost(message: types.ChatMessage) -> None:
    assert translated(from_chat_message(message)) == message


def test_thoughts_without_text_are_passed_over() -> None:
    assert translated(ChatMessage(role="assistant", blocks=[ThinkingBlock(), TextBlock(text="x")])).reasoning is None
