"""`MLXEmbedding` over vectors made of hashes."""

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
from llama_index.core import Document
from llama_index.core.callbacks import CallbackManager, CBEventType, LlamaDebugHandler
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.schema import MetadataMode, TextNode

from mlx_integrations.errors import InvalidRequestError, ModelNotFoundError, QueueFullError
from mlx_integrations.llama_index import MLXEmbedding
from mlx_integrations.testing import FakeEmbeddingBackend
from tests.llama_index.fakes import backend_of, fake_embedding

TEXTS = ["The cat sat on the mat.", "Interest rates rose again.", "Bread needs flour, water and time."]


async def test_every_form_gives_the_same_vectors() -> None:
    model = fake_embedding()
    batch = model.get_text_embedding_batch(TEXTS)
    assert batch == await model.aget_text_embedding_batch(TEXTS)
    assert batch == [model.get_text_embedding(text) for text in TEXTS]
    assert batch == [await model.aget_text_embedding(text) for text in TEXTS]
    assert model.get_query_embedding(TEXTS[0]) == await model.aget_query_embedding(TEXTS[0]) != batch[0]
    assert {len(vector) for vector in batch} == {64} and all(type(value) is float for value in batch[0])


def test_queries_and_texts_are_told_apart() -> None:
    model = fake_embedding()
    model.get_query_embedding("a")
    model.get_text_embedding("a")
    assert [request.options.side for request in backend_of(model).requests] == ["query", "document"]
    other = fake_embedding(query_instruction="Q: ", text_instruction="T: ")
    other.get_query_embedding("a")
    other.get_text_embedding_batch(["a"])
    assert [request.options.prompt for request in backend_of(other).requests] == ["Q: ", "T: "]


async def test_a_list_is_one_call_unless_it_is_to_be_cut() -> None:
    model = fake_embedding()
    model.get_text_embedding_batch(["word"] * 500)
    assert [len(request.texts) for request in backend_of(model).requests] == [500]
    small = fake_embedding(embed_batch_size=200, num_workers=2)
    await small.aget_text_embedding_batch(["word"] * 500)
    assert sorted(len(request.texts) for request in backend_of(small).requests) == [100, 200, 200]
    assert small.get_text_embedding_batch([]) == []


def test_nodes_are_embedded_with_what_their_metadata_say() -> None:
    node = TextNode(
        text="The cat.",
        metadata={"topic": "animals", "secret": "x"},
        excluded_embed_metadata_keys=["secret"],
        excluded_llm_metadata_keys=["topic"],
    )
    model = fake_embedding()
    (embedded,) = model([node])
    seen = backend_of(model).requests[0].texts
    assert seen == [node.get_content(MetadataMode.EMBED)] == ["topic: animals\n\nThe cat."]
    assert embedded.embedding == model.get_text_embedding(seen[0])


async def test_a_pipeline_embeds_what_is_new_only() -> None:
    model = fake_embedding()
    pipeline = IngestionPipeline(transformations=[SentenceSplitter(chunk_size=64, chunk_overlap=0), model])
    documents = [Document(text=text, id_=str(number)) for number, text in enumerate(TEXTS)]
    first = pipeline.run(documents=documents)
    assert len(backend_of(model).requests) == 1
    again = await pipeline.arun(documents=documents)
    assert len(backend_of(model).requests) == 1
    assert [node.embedding for node in first] == [node.embedding for node in again]
    other = fake_embedding("another")
    IngestionPipeline(
        transformations=[SentenceSplitter(chunk_size=64, chunk_overlap=0), other], cache=pipeline.cache
    ).run(documents=documents)
    assert len(backend_of(other).requests) == 1


@pytest.mark.parametrize(
    "other",
    [{"revision": "b"}, {"model_id": "another"}, {"document_prompt": "text: "}, {"normalize": False}],
    ids=["weights", "name", "prompt", "length"],
)
async def test_a_kept_cache_serves_no_vectors_of_other_files(tmp_path: Path, other: dict[str, Any]) -> None:
    """All that may differ is in the model's files; the options of the LlamaIndex models are the same."""

    def pipeline(**options: Any) -> tuple[IngestionPipeline, FakeEmbeddingBackend]:
        backend = FakeEmbeddingBackend(**{"model_id": "minilm", "revision": "a", **options})
        made = IngestionPipeline(transformations=[MLXEmbedding("minilm", backend=backend)])
        if (tmp_path / "pipeline").exists():
            made.load(str(tmp_path / "pipeline"))
        return made, backend

    documents = [Document(text=text, id_=str(number)) for number, text in enumerate(TEXTS)]
    first, _ = pipeline()
    nodes = first.run(documents=documents)
    first.persist(str(tmp_path / "pipeline"))
    again, backend = pipeline()
    assert [node.embedding for node in await again.arun(documents=documents)] == [node.embedding for node in nodes]
    assert backend.requests == []
    changed, backend = pipeline(**other)
    changed.run(documents=documents)
    assert [len(request.texts) for request in backend.requests] == [3]


def test_a_model_that_is_not_here_can_still_be_written_down() -> None:
    assert "fingerprint" not in MLXEmbedding("no-such-model").to_dict()
    written = MLXEmbedding("minilm-l6-v2").to_dict()
    assert written["fingerprint"] == MLXEmbedding("minilm-l6-v2").identity().digest()
    assert MLXEmbedding.from_dict(written).to_dict() == written


def test_events_tell_of_every_piece() -> None:
    debug = LlamaDebugHandler(print_trace_on_end=False)
    model = fake_embedding(embed_batch_size=2, callback_manager=CallbackManager([debug]))
    model.get_text_embedding_batch(TEXTS)
    assert len(debug.get_event_pairs(CBEventType.EMBEDDING)) == 2


def test_texts_that_are_cut_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    reports: list[Any] = []
    backend = FakeEmbeddingBackend(max_tokens=8)
    MLXEmbedding("fake", backend=backend, on_truncated=reports.append).get_text_embedding_batch(["a", "word " * 20])
    assert [(report.count, report.positions) for report in reports] == [(1, (1,))]
    assert "1 of 2 texts were longer" in caplog.text


def test_options_reach_the_engine() -> None:
    model = fake_embedding(dimensions=64, normalize=False, batch_tokens=100)
    model.dimensions = 8
    assert len(model.get_text_embedding("a")) == 8
    options = backend_of(model).requests[0].options
    assert (options.dimensions, options.normalize, options.batch_tokens) == (8, False, 100)


async def test_errors_come_out_as_they_are() -> None:
    model = MLXEmbedding("fake", backend=FakeEmbeddingBackend(error=QueueFullError("busy")))
    with pytest.raises(QueueFullError):
        model.get_text_embedding("a")
    with pytest.raises(QueueFullError):
        await model.aget_text_embedding_batch(["a"])
    for wrong in (3, None):
        with pytest.raises(InvalidRequestError):
            fake_embedding().get_query_embedding(wrong)
    with pytest.raises(InvalidRequestError) as caught:
        fake_embedding().get_text_embedding_batch(["a", 3])
    assert caught.value.field == "texts[1]"
    with pytest.raises(ModelNotFoundError):
        MLXEmbedding("no-such-model").get_text_embedding("a")


def test_names_are_checked_and_aliases_understood() -> None:
    assert MLXEmbedding().model_name == "minilm-l6-v2"
    assert MLXEmbedding(model="a").model_name == MLXEmbedding(model_id="a").model_name == "a"
    assert MLXEmbedding(Path("a"), api_key="x").model_name == "a"
    with pytest.raises(InvalidRequestError, match="Did you mean `dimensions`"):
        MLXEmbedding("a", dimension=3)
    assert MLXEmbedding.from_profile("projects", dimensions=3).dimensions == 3


def test_a_model_can_be_written_down_pickled_and_copied() -> None:
    model = fake_embedding("minilm-l6-v2", embed_batch_size=7)
    model.query_prompt = "Q"
    options = {name: value for name, value in model.to_dict().items() if name != "fingerprint"}
    for again in (MLXEmbedding.from_dict(model.to_dict()), pickle.loads(pickle.dumps(model))):
        # The backend stays behind: the fingerprint is that of the model of this name on this machine.
        assert again.to_dict() == {**options, "fingerprint": again.identity().digest()}
    assert copy.deepcopy(model).backend is model.backend
    assert "minilm-l6-v2" in repr(model) and MLXEmbedding.class_name() == "MLXEmbedding"


async def test_a_fingerprint_has_the_prompts_of_both_sides() -> None:
    model = fake_embedding()
    found = model.fingerprint()
    assert (found.model, found.query_prompt, found.document_prompt) == ("minilm", "query: ", "passage: ")
    assert await model.afingerprint() is found
    model.query_prompt = ""
    assert model.fingerprint().query_prompt == ""
    assert model.get_num_tokens("one two") == 5
