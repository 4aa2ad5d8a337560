"""Indexes and engines with the demo model and MiniLM; where the demo model is too small, a script answers."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from llama_index.core import (
    Document,
    PromptTemplate,
    Settings,
    StorageContext,
    VectorStoreIndex,
    get_response_synthesizer,
    load_index_from_storage,
)
from llama_index.core.agent.workflow import ReActAgent
from llama_index.core.chat_engine import CondenseQuestionChatEngine
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.query_engine import RouterQueryEngine, SubQuestionQueryEngine
from llama_index.core.question_gen import LLMQuestionGenerator
from llama_index.core.response_synthesizers import ResponseMode
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.core.selectors import EmbeddingSingleSelector
from llama_index.core.tools import QueryEngineTool
from pydantic import BaseModel

from mlx_integrations.errors import EmbeddingMismatchError
from mlx_integrations.llama_index import MLXLLM, MLXEmbedding, chat_memory_buffer, guarded, verify_index
from mlx_integrations.types import ToolCall
from tests.llama_index.fakes import fake_embedding, fake_llm

TEXTS = [
    "The city museum opens at 10:00. The ticket costs 12 euros.",
    "The ferry leaves from pier 4 at 7:30.",
    "The bakery in Elm Street sells bread.",
]
ANSWERS = {
    "When does the museum open?": "10:00",
    "From which pier does the ferry leave?": "4",
    "How much does the ticket cost?": "12",
}


@pytest.fixture(scope="module")
def llm() -> MLXLLM:
    return MLXLLM("demo", temperature=0)


@pytest.fixture(scope="module")
def embedding() -> MLXEmbedding:
    return MLXEmbedding("minilm-l6-v2")


@pytest.fixture(scope="module")
def index(embedding: MLXEmbedding) -> VectorStoreIndex:
    return VectorStoreIndex.from_documents([Document(text=text) for text in TEXTS], embed_model=embedding)


@pytest.fixture(autouse=True)
def _own_tokenizer(llm: MLXLLM) -> Iterator[None]:
    """The settings as an application of one model has them, and as they were afterwards."""
    import llama_index.core

    before = llama_index.core.global_tokenizer
    Settings.tokenizer = llm.tokenizer
    yield
    llama_index.core.global_tokenizer = before


@pytest.mark.parametrize(("question", "answer"), ANSWERS.items())
async def test_a_query_engine_answers_from_the_right_text(
    llm: MLXLLM, index: VectorStoreIndex, question: str, answer: str
) -> None:
    engine = index.as_query_engine(llm=llm, similarity_top_k=1)
    response = engine.query(question)
    assert answer in str(response) and answer in response.source_nodes[0].text
    assert str(await engine.aquery(question)) == str(response)
    streaming: Any = index.as_query_engine(llm=llm, similarity_top_k=1, streaming=True)
    pieces = list(streaming.query(question).response_gen)
    assert "".join(pieces) == str(response) and len(pieces) > 3
    astreaming: Any = await streaming.aquery(question)
    assert "".join([piece async for piece in astreaming.async_response_gen()]) == str(response)


@pytest.mark.parametrize("mode", ["context", "condense_plus_context", "condense_question"])
async def test_a_chat_engine_answers_from_the_right_text(llm: MLXLLM, index: VectorStoreIndex, mode: Any) -> None:
    memory = chat_memory_buffer(llm)
    engine: Any = index.as_chat_engine(chat_mode=mode, llm=llm, similarity_top_k=1, memory=memory)
    assert "10:00" in str(engine.chat("When does the museum open?"))
    assert len(memory.get()) == 2
    streamed = engine.stream_chat("When does the museum open?")
    assert "".join(streamed.response_gen)
    fresh: Any = index.as_chat_engine(chat_mode=mode, llm=llm, similarity_top_k=1, memory=chat_memory_buffer(llm))
    assert "10:00" in str(await fresh.achat("When does the museum open?"))


@pytest.mark.parametrize("mode", ["context", "condense_plus_context", "condense_question"])
def test_a_long_conversation_stays_within_a_small_window(index: VectorStoreIndex, mode: Any) -> None:
    """The window has 1,024 tokens, of which LlamaIndex keeps 500 free and fills 230 with words of its own."""
    llm = MLXLLM("demo", temperature=0, max_tokens=64)
    engine: Any = index.as_chat_engine(
        chat_mode=mode, llm=llm, similarity_top_k=1, memory=chat_memory_buffer(llm), verbose=False
    )
    for _ in range(4):
        for question in ANSWERS:
            assert str(engine.chat(question))


async def test_a_follow_up_is_asked_as_a_question_of_its_own(llm: MLXLLM, index: VectorStoreIndex) -> None:
    """The question is scripted: rephrasing one is beyond the demo model. It answers both."""
    scripted, backend = fake_llm("How much does the ticket cost?")

    def conversation() -> Any:
        return CondenseQuestionChatEngine.from_defaults(
            index.as_query_engine(llm=llm, similarity_top_k=1), llm=scripted, memory=chat_memory_buffer(scripted)
        )

    engine = conversation()
    assert "10:00" in str(engine.chat("When does the museum open?")) and backend.requests == []
    assert "12" in str(engine.chat("And what is it to go in?"))
    asked = backend.requests[0].messages[-1].content
    assert "The museum opens at 10:00." in asked and "And what is it to go in?" in asked
    engine = conversation()
    await engine.achat("When does the museum open?")
    assert "12" in str(await engine.achat("And what is it to go in?"))


async def test_a_router_chooses_by_meaning(llm: MLXLLM, embedding: MLXEmbedding) -> None:
    tools = [
        QueryEngineTool.from_defaults(
            VectorStoreIndex.from_documents([Document(text=text)], embed_model=embedding).as_query_engine(llm=llm),
            name=name,
            description=description,
        )
        for text, name, description in zip(
            TEXTS,
            ("museum", "ferry", "bakery"),
            ("Museums and tickets.", "Ferries, boats and piers.", "Bread."),
            strict=True,
        )
    ]
    router = RouterQueryEngine(
        selector=EmbeddingSingleSelector.from_defaults(embed_model=embedding), query_engine_tools=tools, llm=llm
    )
    response = await router.aquery("From which pier does the ferry leave?")
    assert "4" in str(response) and (response.metadata or {})["selector_result"].inds == [1]


def test_a_router_of_a_model_is_held_to_the_choices(llm: MLXLLM, index: VectorStoreIndex) -> None:
    """Scripted: choosing by reading is beyond the demo model."""
    chosen = {"selections": [{"index": 2, "reason": "It is about ferries."}]}
    scripted, backend = fake_llm(ToolCall(id="1", name="MultiSelection", arguments=chosen))
    engine = index.as_query_engine(llm=llm, similarity_top_k=1)
    tools = [QueryEngineTool.from_defaults(engine, name=name, description=name) for name in ("museums", "ferries")]
    router = RouterQueryEngine.from_defaults(tools, llm=scripted, select_multi=True)
    assert "4" in str(router.query("From which pier does the ferry leave?"))
    assert backend.requests[0].tool_choice.mode == "any"


def test_sub_questions_are_answered_one_by_one(llm: MLXLLM, index: VectorStoreIndex) -> None:
    """The questions are scripted: breaking one down is beyond the demo model. It answers each of them."""
    questions = [{"sub_question": question, "tool_name": "town"} for question in list(ANSWERS)[:2]]
    scripted, _ = fake_llm("```json\n" + json.dumps({"items": questions}) + "\n```")
    engine = SubQuestionQueryEngine.from_defaults(
        [
            QueryEngineTool.from_defaults(
                index.as_query_engine(llm=llm, similarity_top_k=1), name="town", description="A town."
            )
        ],
        llm=llm,
        question_gen=LLMQuestionGenerator.from_defaults(llm=scripted),
        use_async=False,
        verbose=False,
    )
    response = engine.query("When does the museum open, and where does the ferry leave?")
    answered = " ".join(node.text for node in response.source_nodes if node.text.startswith("Sub question"))
    assert "Response: The museum opens at 10:00." in answered and "pier 4" in answered
    assert "pier 4" in str(response) or "10:00" in str(response)


async def test_an_agent_that_writes_its_thoughts_asks_an_engine(llm: MLXLLM, index: VectorStoreIndex) -> None:
    """The thoughts are scripted: to ask for them takes more tokens than the demo model's window. It answers."""
    act = 'Thought: I need a tool.\nAction: town\nAction Input: {"input": "When does the museum open?"}'
    scripted, backend = fake_llm(act, "Thought: I can answer without using any more tools.\nAnswer: At ten.")
    engine = index.as_query_engine(llm=llm, similarity_top_k=1)
    tool = QueryEngineTool.from_defaults(engine, name="town", description="A town.")
    assert str(await ReActAgent(tools=[tool], llm=scripted).run("When may I go to the museum?")) == "At ten."
    assert backend.requests[1].messages[-1].content == "Observation: The museum opens at 10:00."


@pytest.mark.parametrize(
    ("mode", "calls"), [("refine", 3), ("compact", 1), ("tree_summarize", 1), ("simple_summarize", 1)]
)
async def test_synthesizers_ask_as_often_as_they_say(mode: Any, calls: int) -> None:
    nodes = [NodeWithScore(node=TextNode(text=text), score=1.0) for text in TEXTS]
    scripted, backend = fake_llm("An answer.")
    synthesizer = get_response_synthesizer(scripted, response_mode=mode)
    assert str(synthesizer.synthesize("?", nodes)) == "An answer."
    assert len(backend.requests) == calls
    assert str(await synthesizer.asynthesize("?", nodes)) == "An answer."


@pytest.mark.parametrize("mode", ["refine", "compact", "tree_summarize"])
def test_synthesizers_answer_from_a_text(llm: MLXLLM, mode: Any) -> None:
    nodes = [NodeWithScore(node=TextNode(text=TEXTS[0]), score=1.0)]
    response = get_response_synthesizer(llm, response_mode=mode).synthesize("When does the museum open?", nodes)
    assert "10:00" in str(response)


def test_long_texts_are_cut_to_the_models_window(llm: MLXLLM) -> None:
    nodes = [NodeWithScore(node=TextNode(text=TEXTS[0] + " The garden is green." * 120), score=1.0)]
    synthesizer = get_response_synthesizer(llm, response_mode=ResponseMode.TREE_SUMMARIZE)
    assert str(synthesizer.synthesize("When does it open?", nodes))


class Contact(BaseModel):
    """A person."""

    name: str
    age: int
    city: str


async def test_objects_are_held_to_their_schema(llm: MLXLLM) -> None:
    prompt = PromptTemplate("{text}")
    text = "Clara Lang is 36 years old. Clara Lang lives in Lisbon."
    clara = Contact(name="Clara Lang", age=36, city="Lisbon")
    assert llm.structured_predict(Contact, prompt, text=text) == clara
    assert await llm.astructured_predict(Contact, prompt, text=text) == clara
    pieces = list(llm.stream_structured_predict(Contact, prompt, text=text))
    assert pieces[-1] == clara and len(pieces) > 5
    assert llm.as_structured_llm(Contact).complete(text).raw == clara


def test_a_pipeline_fills_an_index(llm: MLXLLM, embedding: MLXEmbedding) -> None:
    splitter = SentenceSplitter(chunk_size=64, chunk_overlap=0, tokenizer=llm.tokenizer)
    pipeline = IngestionPipeline(transformations=[splitter, embedding])
    documents = [Document(text=text, id_=str(number)) for number, text in enumerate(TEXTS)]
    nodes = pipeline.run(documents=documents)
    assert all(len(node.embedding or ()) == 384 for node in nodes)
    assert [node.embedding for node in pipeline.run(documents=documents)] == [node.embedding for node in nodes]
    engine = VectorStoreIndex(list(nodes), embed_model=embedding).as_query_engine(llm=llm, similarity_top_k=1)
    assert "12" in str(engine.query("How much does the ticket cost?"))


def test_a_persisted_index_is_kept_to_its_model(
    llm: MLXLLM, embedding: MLXEmbedding, index: VectorStoreIndex, tmp_path: Path
) -> None:
    folder = tmp_path / "storage"
    made = VectorStoreIndex.from_documents([Document(text=text) for text in TEXTS], embed_model=embedding)
    guarded(made).storage_context.persist(str(folder))

    def opened(model: MLXEmbedding) -> VectorStoreIndex:
        found = load_index_from_storage(StorageContext.from_defaults(persist_dir=str(folder)), embed_model=model)
        assert isinstance(found, VectorStoreIndex)
        return guarded(found, path=folder)

    again = opened(MLXEmbedding("minilm-l6-v2"))
    assert verify_index(again).model == "minilm-l6-v2"
    engine = again.as_query_engine(llm=llm, similarity_top_k=1)
    assert "10:00" in str(engine.query("When does the museum open?"))
    for other in (MLXEmbedding("minilm-l6-v2", dimensions=128), fake_embedding("bge-small", dimensions=384)):
        with pytest.raises(EmbeddingMismatchError, match=r"made by `minilm-l6-v2` \(384 dimensions\)"):
            opened(other).as_query_engine(llm=llm)
