"""Vectors that are computed once: who they belong to, and what happens to damaged ones."""

import hashlib
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from langchain_classic.embeddings import CacheBackedEmbeddings
from langchain_classic.storage import LocalFileStore
from langchain_core import exceptions
from langchain_core.stores import ByteStore, InMemoryByteStore

from mlx_integrations.errors import InvalidRequestError, QueueFullError
from mlx_integrations.fingerprint import EmbeddingFingerprint
from mlx_integrations.langchain import MLXEmbeddings
from mlx_integrations.langchain.embedding_cache import CachedEmbeddings
from mlx_integrations.testing import FakeEmbeddingBackend
from mlx_integrations.types import EmbeddingOptions

PLAIN = EmbeddingOptions()
TEXTS = ["one two", "", "three", "one two", "half \ud83d"]


def model(*, seed: int = 0, **options: Any) -> tuple[MLXEmbeddings, FakeEmbeddingBackend]:
    backend = FakeEmbeddingBackend(query_prompt="query: ", seed=seed)
    return MLXEmbeddings(model="fake", backend=backend, **options), backend


def embedded(backend: FakeEmbeddingBackend) -> list[list[str]]:
    return [request.texts for request in backend.requests]


@pytest.fixture(params=["memory", "files"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ByteStore:
    return InMemoryByteStore() if request.param == "memory" else LocalFileStore(tmp_path)


def test_it_is_langchains_cache(store: ByteStore) -> None:
    assert isinstance(model()[0].cached(store), CacheBackedEmbeddings)


async def test_vectors_are_the_models_own_to_the_last_bit(store: ByteStore) -> None:
    plain, _ = model()
    cached = plain.cached(store)
    for _ in range(2):
        assert cached.embed_documents(TEXTS) == plain.embed_documents(TEXTS)
        assert await cached.aembed_documents(TEXTS) == plain.embed_documents(TEXTS)
        assert cached.embed_query("one") == await cached.aembed_query("one") == plain.embed_query("one")


def test_what_is_known_is_not_embedded_again(store: ByteStore) -> None:
    embeddings, backend = model()
    embeddings.cached(store).embed_documents(TEXTS)
    embeddings.cached(store).embed_documents([*TEXTS, "new", "new"])
    assert embedded(backend) == [["one two", "", "three", "half \ud83d"], ["new"]]


async def test_what_sync_calls_stored_async_calls_know(store: ByteStore) -> None:
    embeddings, backend = model()
    cached = embeddings.cached(store)
    cached.embed_documents(["a"])
    cached.embed_query("q")
    await cached.aembed_documents(["a", "b"])
    await cached.aembed_query("q")
    assert embedded(backend) == [["a"], ["q"], ["b"]]


def test_a_query_is_never_answered_with_a_documents_vector() -> None:
    embeddings, backend = model()
    cached = embeddings.cached(InMemoryByteStore())
    assert cached.embed_documents(["same"])[0] != cached.embed_query("same") == embeddings.embed_query("same")
    assert [request.options.side for request in backend.requests[:2]] == ["document", "query"]


def test_queries_are_only_kept_if_wanted() -> None:
    embeddings, backend = model()
    store = InMemoryByteStore()
    cached = embeddings.cached(store, cache_queries=False)
    cached.embed_query("q")
    cached.embed_query("q")
    assert embedded(backend) == [["q"], ["q"]]
    assert list(store.yield_keys()) == []


def test_keys_are_the_fingerprint_the_side_and_the_hash_of_the_text() -> None:
    embeddings, _ = model()
    store = InMemoryByteStore()
    cached = embeddings.cached(store)
    cached.embed_documents(["one"])
    cached.embed_query("two")
    digest = embeddings.fingerprint().digest()
    hashes = [hashlib.sha256(text).hexdigest() for text in (b"one", b"two")]
    assert sorted(store.yield_keys()) == sorted([f"{digest}-document-{hashes[0]}", f"{digest}-query-{hashes[1]}"])
    assert [len(value) for value in store.mget(list(store.yield_keys())) if value is not None] == [4 * 32] * 2


@pytest.mark.parametrize("other", [{"dimensions": 8}, {"normalize": False}, {"document_prompt": "find: "}])
def test_one_store_serves_many_models(other: dict[str, Any]) -> None:
    store = InMemoryByteStore()
    first, second = model()[0], model(**other)[0]
    for embeddings in (first, second, first):
        assert embeddings.cached(store).embed_documents(["a"]) == embeddings.embed_documents(["a"])
    assert len(list(store.yield_keys())) == 2


def test_options_that_do_not_change_vectors_share_them() -> None:
    store = InMemoryByteStore()
    model()[0].cached(store).embed_documents(["a"])
    again, backend = model(batch_tokens=9, show_progress=True)
    again.cached(store).embed_documents(["a"])
    assert backend.requests == []


@pytest.mark.parametrize("damage", [b"", b"\x00" * 127, b'[0.1, 0.2, "x"]', b"\x00" * 132])
def test_a_damaged_vector_is_computed_again(damage: bytes) -> None:
    embeddings, backend = model()
    store = InMemoryByteStore()
    cached = embeddings.cached(store)
    expected = cached.embed_documents(["a"])
    (key,) = store.yield_keys()
    store.mset([(key, damage)])
    assert cached.embed_documents(["a"]) == expected == cached.embed_documents(["a"])
    assert embedded(backend) == [["a"], ["a"]]


def test_vectors_are_stored_as_batches_are_done() -> None:
    embeddings, _ = model()
    store = InMemoryByteStore()

    class Failing(FakeEmbeddingBackend):
        def stream(self, texts: Any, options: EmbeddingOptions = PLAIN) -> Any:
            if len(self.requests) == 2:
                raise QueueFullError("busy")
            return super().stream(texts, options)

    embeddings = MLXEmbeddings(model="fake", backend=Failing())
    with pytest.raises(exceptions.ModelRateLimitError):
        embeddings.cached(store, batch_size=2).embed_documents(list("abcde"))
    assert len(list(store.yield_keys())) == 4


def test_equal_texts_get_vectors_of_their_own() -> None:
    first, second = model()[0].cached(InMemoryByteStore()).embed_documents(["a", "a"])
    first[0] = 9.0
    assert second[0] != 9.0


@pytest.mark.parametrize("other", [None, 7, b"x"])
async def test_what_is_no_text_is_refused_before_anything_is_asked(other: Any) -> None:
    embeddings, backend = model()
    cached = embeddings.cached(InMemoryByteStore())
    for texts, field in ((["a", other], "texts[1]"), ("one text", "texts")):
        with pytest.raises(InvalidRequestError) as caught:
            cached.embed_documents(texts)  # type: ignore[arg-type]
        assert caught.value.field == field
        with pytest.raises(InvalidRequestError):
            await cached.aembed_documents(texts)  # type: ignore[arg-type]
    with pytest.raises(InvalidRequestError, match="`text` is"):
        cached.embed_query(other)
    with pytest.raises(InvalidRequestError, match="`text` is"):
        await cached.aembed_query(other)
    assert backend.requests == []


@pytest.mark.parametrize("batch_size", [0, -1])
def test_impossible_batches_are_refused(batch_size: int) -> None:
    with pytest.raises(InvalidRequestError, match="`batch_size` cannot be"):
        model()[0].cached(InMemoryByteStore(), batch_size=batch_size)


async def test_nothing_is_loaded_until_it_is_asked_and_never_on_the_event_loop() -> None:
    threads: list[int] = []

    class Watched(FakeEmbeddingBackend):
        def identity(self, options: EmbeddingOptions = PLAIN) -> EmbeddingFingerprint:
            threads.append(threading.get_ident())
            return super().identity(options)

    cached = MLXEmbeddings(model="fake", backend=Watched()).cached(InMemoryByteStore())
    assert isinstance(cached, CachedEmbeddings) and threads == []
    await cached.aembed_documents(["a"])
    await cached.aembed_query("a")
    assert len(threads) == 1 and threads[0] != threading.get_ident()
    assert cached.fingerprint() == await cached.afingerprint()


def test_known_texts_load_no_weights() -> None:
    class Weightless(FakeEmbeddingBackend):
        def fingerprint(self, options: EmbeddingOptions = PLAIN) -> EmbeddingFingerprint:
            raise AssertionError("a witness needs the weights")

    store = InMemoryByteStore()
    MLXEmbeddings(model="fake", backend=FakeEmbeddingBackend()).cached(store).embed_documents(["a", "b"])
    backend = Weightless()
    cached = MLXEmbeddings(model="fake", backend=backend).cached(store)
    assert len(cached.embed_documents(["b", "a"])) == 2
    assert backend.requests == []


def test_a_missing_cache_is_named_with_its_install_line() -> None:
    code = (
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] == 'langchain_classic':\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Missing())\n"
        "from mlx_integrations.langchain import MLXEmbeddings\n"
        "from langchain_core.stores import InMemoryByteStore\n"
        "try:\n"
        "    MLXEmbeddings(model='a').cached(InMemoryByteStore())\n"
        "except ImportError as error:\n"
        "    print(type(error).__name__, error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip() == (
        "MissingExtraError The embedding cache needs `langchain-classic`. "
        'Install it with: pip install "mlx-integrations[langchain]"'
    ), done.stderr
