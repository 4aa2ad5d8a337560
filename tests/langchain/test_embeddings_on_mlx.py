"""`MLXEmbeddings` with MiniLM on the runtime: meaning, stores, cache, and chat's own event loop."""

import asyncio
from pathlib import Path

import numpy as np
import pytest
from langchain_classic.storage import LocalFileStore
from langchain_community.vectorstores import FAISS
from langchain_core.runnables import RunnableLambda

from mlx_integrations.errors import EmbeddingMismatchError
from mlx_integrations.langchain import MLXEmbeddings, guarded, verify_store
from mlx_integrations.manager.locate import locate
from mlx_integrations.testing import FakeEmbeddingBackend

MODEL = "minilm-l6-v2"
TEXTS = [
    "The cat sleeps on the warm sofa all day.",
    "The central bank raised interest rates by a quarter point.",
    "To bake bread you need flour, water, salt and yeast.",
    "",
]
QUESTIONS = {"Where does the animal rest?": 0, "What happened to the cost of borrowing?": 1, "How is a loaf made?": 2}


@pytest.fixture(scope="module")
def embeddings() -> MLXEmbeddings:
    return MLXEmbeddings()


def test_the_default_model_finds_by_meaning(embeddings: MLXEmbeddings) -> None:
    assert embeddings.model == MODEL
    documents = np.array(embeddings.embed_documents(TEXTS))
    for question, answer in QUESTIONS.items():
        assert int(np.argmax(documents @ embeddings.embed_query(question))) == answer


def test_fewer_dimensions_are_the_first_ones_at_length_one(embeddings: MLXEmbeddings) -> None:
    whole = np.array(embeddings.embed_query(TEXTS[0]))
    short = np.array(MLXEmbeddings(model=MODEL, dimensions=100).embed_query(TEXTS[0]))
    assert short == pytest.approx(whole[:100] / np.linalg.norm(whole[:100]), abs=1e-6)


async def test_calls_at_the_same_time_share_the_model(embeddings: MLXEmbeddings) -> None:
    expected = embeddings.embed_documents(TEXTS)
    calls = [MLXEmbeddings(model=MODEL).aembed_documents(TEXTS) for _ in range(4)]
    for found in await asyncio.gather(*calls):
        assert np.allclose(found, expected, atol=1e-6)


async def test_in_a_chain(embeddings: MLXEmbeddings) -> None:
    chain = RunnableLambda(embeddings.embed_query, afunc=embeddings.aembed_query) | RunnableLambda(len)
    assert chain.invoke("a") == await chain.ainvoke("a") == 384


def test_a_long_text_is_reported(embeddings: MLXEmbeddings, caplog: pytest.LogCaptureFixture) -> None:
    assert embeddings.embed(["short", "word " * 300]).truncated == (1,)
    assert "1 of 2 texts were longer than the 256 tokens" in caplog.text


def test_a_cache_on_the_disk_gives_back_the_same_vectors(embeddings: MLXEmbeddings, tmp_path: Path) -> None:
    first = embeddings.cached(LocalFileStore(tmp_path)).embed_documents(TEXTS)
    again = MLXEmbeddings(model=MODEL).cached(LocalFileStore(tmp_path)).embed_documents(TEXTS)
    assert first == again
    assert len([path for path in tmp_path.iterdir() if path.is_file()]) == len(TEXTS)


async def test_a_guarded_store_of_real_vectors(embeddings: MLXEmbeddings, tmp_path: Path) -> None:
    guarded(FAISS.from_texts(TEXTS[:3], embeddings)).save_local(str(tmp_path))

    def opened(model: MLXEmbeddings) -> FAISS:
        store = FAISS.load_local(str(tmp_path), model, allow_dangerous_deserialization=True)
        return guarded(store, path=tmp_path)

    store = opened(MLXEmbeddings(model=MODEL))
    for question, answer in QUESTIONS.items():
        assert (await store.asimilarity_search(question, k=1))[0].page_content == TEXTS[answer]
    folder = str(locate(MODEL))
    assert verify_store(opened(MLXEmbeddings(model=folder))).model == folder
    same_size = FakeEmbeddingBackend(model_id="bge-small", dimensions=384)
    for other in (MLXEmbeddings(model=MODEL, dimensions=128), MLXEmbeddings(model="bge-small", backend=same_size)):
        with pytest.raises(EmbeddingMismatchError, match=rf"made by `{MODEL}` \(384 dimensions\)"):
            await opened(other).aadd_texts(["x"])


def test_vectors_without_a_record_are_known(embeddings: MLXEmbeddings) -> None:
    texts = TEXTS[:3]
    verify_store(guarded(FAISS.from_texts(texts, embeddings)))
    store = FAISS.from_texts(texts, embeddings)
    store.embedding_function = MLXEmbeddings(model="bge", backend=FakeEmbeddingBackend(dimensions=384))
    with pytest.raises(EmbeddingMismatchError, match="not those that its texts have now"):
        verify_store(guarded(store))
