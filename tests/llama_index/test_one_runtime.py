"""Both frameworks on one runtime: the same answers, from one copy of the weights, in one batch."""

import json
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from llama_index.core.base.llms.types import ChatMessage, TextBlock, ToolCallBlock

from mlx_integrations.langchain import ChatMLX, MLXEmbeddings
from mlx_integrations.llama_index import MLXLLM, MLXEmbedding
from mlx_integrations.runtime.engine import Runtime
from mlx_integrations.settings import RuntimeSettings
from tests.tiny_models import build_model

WORDS = "one two three red green blue cat dog house é 你好 🙂 add what is the".split()
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": f"The tool {name}.",
            "parameters": {
                "type": "object",
                "properties": {"way": {"enum": ["left", "right"]}, "far": {"type": "boolean"}},
                "required": ["way"],
            },
        },
    }
    for name in ("go", "look")
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_model(tmp_path_factory.mktemp("tiny") / "llama", "llama")


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    runtime = Runtime(RuntimeSettings(prefill_step_tokens=64))
    yield runtime
    runtime.close()


def conversation(draw: random.Random) -> tuple[list[BaseMessage], list[ChatMessage]]:
    """The same conversation in the words of both frameworks."""

    def text() -> str:
        return " ".join(draw.choices(WORDS, k=draw.randint(1, 8)))

    theirs: list[BaseMessage] = []
    ours: list[ChatMessage] = []
    if draw.random() < 0.5:
        said = text()
        theirs.append(SystemMessage(said))
        ours.append(ChatMessage(role="system", content=said))
    for turn in range(draw.randint(0, 3)):
        asked, answered = text(), text()
        theirs.append(HumanMessage(asked))
        ours.append(ChatMessage(role="user", content=asked))
        if draw.random() < 0.5:
            theirs.append(AIMessage(answered))
            ours.append(ChatMessage(role="assistant", content=answered))
            continue
        arguments, call_id, result = {"way": draw.choice(["left", "right"])}, f"call_{turn}", text()
        theirs.append(AIMessage(answered, tool_calls=[{"name": "go", "args": arguments, "id": call_id}]))
        theirs.append(ToolMessage(result, tool_call_id=call_id))
        call = ToolCallBlock(tool_call_id=call_id, tool_name="go", tool_kwargs=arguments)
        ours.append(ChatMessage(role="assistant", blocks=[TextBlock(text=answered), call]))
        ours.append(ChatMessage(role="tool", content=result, additional_kwargs={"tool_call_id": call_id}))
    said = text()
    return [*theirs, HumanMessage(said)], [*ours, ChatMessage(role="user", content=said)]


def options(draw: random.Random) -> dict[str, Any]:
    found: dict[str, Any] = {
        "temperature": draw.choice([0.0, 0.7, 1.3]),
        "seed": draw.randint(0, 9999),
        "max_tokens": 24,
    }
    if draw.random() < 0.5:
        found |= {"tools": TOOLS, "tool_choice": draw.choice(["auto", "required", "go", "none"])}
        found["parallel_tool_calls"] = draw.random() < 0.5
        found["max_tokens"] = 100  # a call takes some sixty tokens of a byte or two
    elif draw.random() < 0.3:
        found["response_format"] = {"type": "regex", "pattern": "[a-z]{3,9}"}
    return found


def test_fifty_conversations_have_the_same_answers(folder: Path, runtime: Runtime) -> None:
    draw = random.Random(20)
    their_llm, our_llm = ChatMLX(model=str(folder), runtime=runtime), MLXLLM(folder, runtime=runtime)
    called = 0
    for _ in range(50):
        theirs, ours = conversation(draw)
        given = options(draw)
        their = their_llm.invoke(theirs, **given)
        our = our_llm.chat(ours, **given)
        calls = [
            (block.tool_name, block.tool_kwargs) for block in our.message.blocks if isinstance(block, ToolCallBlock)
        ]
        called += len(calls)
        assert (our.message.content or "") == their.text
        assert json.dumps(calls) == json.dumps([(call["name"], call["args"]) for call in their.tool_calls])
        assert our.raw["finish_reason"] == their.response_metadata["finish_reason"]
        assert their.usage_metadata is not None
        assert our.additional_kwargs["prompt_tokens"] == their.usage_metadata["input_tokens"]
        assert our.additional_kwargs["completion_tokens"] == their.usage_metadata["output_tokens"]
    assert called > 5
    assert runtime.loads == 1


def test_a_history_that_ends_with_an_answer_is_treated_alike(folder: Path, runtime: Runtime) -> None:
    options: dict[str, Any] = {"temperature": 0, "max_tokens": 12}
    theirs = ChatMLX(model=str(folder), runtime=runtime).invoke([HumanMessage("one"), AIMessage("two")], **options)
    history = [ChatMessage(content="one"), ChatMessage(role="assistant", content="two")]
    assert (MLXLLM(folder, runtime=runtime).chat(history, **options).message.content or "") == theirs.text


def test_both_frameworks_share_one_copy_and_one_batch(folder: Path, runtime: Runtime) -> None:
    their_llm, our_llm = ChatMLX(model=str(folder), runtime=runtime), MLXLLM(folder, runtime=runtime)
    with (
        closing(their_llm.stream("one two", max_tokens=200, temperature=1.0)) as theirs,  # type: ignore[type-var]
        closing(our_llm.stream_chat([ChatMessage(content="red green")], max_tokens=200, temperature=1.0)) as ours,
    ):
        next(theirs)
        next(ours)
        (model,) = runtime.models()
        assert model.active_requests == 2 and model.is_batched
    assert runtime.loads == 1


def test_many_threads_share_a_model_that_nobody_looked_up_before(folder: Path, runtime: Runtime) -> None:
    options: dict[str, Any] = {"temperature": 0.8, "seed": 3, "max_tokens": 16}
    alone = [MLXLLM(folder, runtime=runtime).complete(word, **options).text for word in WORDS[:8]]
    shared = MLXLLM(folder, runtime=runtime)
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(lambda word: shared.complete(word, **options).text, WORDS[:8]))
    assert together == alone and len(set(alone)) > 4
    assert runtime.loads == 1


def test_both_frameworks_make_the_same_vectors_with_one_copy() -> None:
    runtime = Runtime(RuntimeSettings())
    try:
        theirs = MLXEmbeddings(model="minilm-l6-v2", runtime=runtime)
        ours = MLXEmbedding("minilm-l6-v2", runtime=runtime)
        assert ours.get_text_embedding_batch(WORDS) == theirs.embed_documents(WORDS)
        assert ours.get_query_embedding("cat") == theirs.embed_query("cat")
        assert ours.fingerprint() == theirs.fingerprint()
        assert runtime.loads == 1
    finally:
        runtime.close()
