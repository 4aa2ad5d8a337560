"""Collections of a Qdrant server, over sockets: the contract of all stores, and what is their own."""

import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from langchain_qdrant import QdrantVectorStore
from llama_index.core import MockEmbedding, StorageContext, VectorStoreIndex
from llama_index.core.schema import MetadataMode
from llama_index.vector_stores.qdrant import QdrantVectorStore as LlamaIndexQdrant
from qdrant_client import QdrantClient, models

from mlx_integrations.errors import (
    EmbeddingMismatchError,
    MissingExtraError,
    RowsError,
    StoreBusyError,
    StoreChangedError,
    StoreError,
)
from mlx_integrations.langchain import MLXEmbeddings, verify_store
from mlx_integrations.llama_index import MLXEmbedding, verify_index
from mlx_integrations.llama_index import guarded as guarded_index
from mlx_integrations.migration.api import gc, migrate, publish, rollback
from mlx_integrations.migration.contract import Document, documents
from mlx_integrations.migration.stores.opening import open_store
from mlx_integrations.migration.stores.qdrant import server as qdrant_server
from mlx_integrations.migration.stores.qdrant.collection import QdrantServerStore
from tests import qdrant_server as limits
from tests.migration.qdrant_stores import ServerAliasContract, ServerContract, client, fill
from tests.migration.stores import NEW_DIMENSIONS, OLD_DIMENSIONS, executor, flat_nodes, vectors
from tests.migration.test_qdrant_local import Words, backend, hybrid, hybrid_points
from tests.qdrant_server import Server, serving

pytestmark = pytest.mark.usefixtures("qdrant")


class TestQdrantServer(ServerContract):
    pass


class TestQdrantServerAlias(ServerAliasContract):
    pass


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is waited for long."""
    monkeypatch.setattr(qdrant_server, "_PAUSES_SECONDS", (0.01, 0.01))
    monkeypatch.setattr(qdrant_server, "TIMEOUT_SECONDS", 1)


def shown(name: str) -> list[tuple[Any, Any, Any]]:
    found: list[tuple[Any, Any, Any]] = []
    after: Any = None
    while True:
        page, after = client().scroll(name, limit=50, offset=after, with_payload=True, with_vectors=True)
        found += [(each.id, each.payload, each.vector) for each in page]
        if after is None:
            return found


def alias(name: str, collection: str) -> None:
    made = models.CreateAlias(collection_name=collection, alias_name=name)
    client().update_collection_aliases([models.CreateAliasOperation(create_alias=made)])


def runs(name: str) -> set[str]:
    """What runs have left of a name: collections and aliases."""
    known = client()
    found = {each.name for each in known.get_collections().collections}
    found |= {each.alias_name for each in known.get_aliases().aliases}
    return {each for each in found if each.startswith(name)}


class Watcher:
    """Asks for a collection all the time, as a program does that uses it.

    Attributes:
        sizes: Of the vectors that it was shown, each time; 0 where there was no collection.
    """

    def __init__(self, name: str) -> None:
        self.sizes: list[int] = []
        self._name = name
        self._is_done = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "Watcher":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._is_done.set()
        self._thread.join()

    def _watch(self) -> None:
        from qdrant_client.http.exceptions import UnexpectedResponse

        known = client()
        while not self._is_done.is_set():
            try:
                (point,) = known.scroll(self._name, limit=1, with_vectors=True)[0]
                self.sizes.append(len(point.vector))  # type: ignore[arg-type]
            except UnexpectedResponse:
                self.sizes.append(0)


def test_an_alias_is_switched_by_one_request_and_nobody_finds_nothing(server: Server, name: str) -> None:
    fill(client(), documents(10), f"{name}-2025")
    alias(name, f"{name}-2025")
    store = QdrantServerStore(server.url, name)
    migrate(store, executor(), publishes=False)
    for action, old, new in ((publish, OLD_DIMENSIONS, NEW_DIMENSIONS), (rollback, NEW_DIMENSIONS, OLD_DIMENSIONS)):
        server.log.clear()
        with Watcher(name) as watcher:
            while not watcher.sizes:
                time.sleep(0.001)
            action(store)
        assert server.kinds().count("change_aliases") == 1
        assert "delete" not in server.kinds()
        assert watcher.sizes == sorted(watcher.sizes, reverse=old > new)
        assert set(watcher.sizes) <= {old, new}
    assert {f"{name}-2025"} < runs(name)
    migrate(store, executor())
    gc(store)
    left = runs(name)
    assert len(left) == 2 and f"{name}-2025" not in left


def test_a_bare_name_is_missing_between_two_requests_that_follow_each_other(server: Server, name: str) -> None:
    fill(client(), documents(10), name)
    before = shown(name)
    store = QdrantServerStore(server.url, name)
    migrate(store, executor(), publishes=False)
    assert shown(name) == before
    server.log.clear()
    with Watcher(name) as watcher:
        while not watcher.sizes:
            time.sleep(0.001)
        publish(store)
    assert set(watcher.sizes) <= {0, OLD_DIMENSIONS, NEW_DIMENSIONS}
    own = [kind for kind in server.kinds() if kind in ("delete", "change_aliases", "create", "upsert")]
    assert own == ["change_aliases", "delete", "change_aliases"]
    server.log.clear()
    with Watcher(name) as watcher:
        rollback(store)
    assert 0 not in watcher.sizes
    assert server.kinds().count("change_aliases") == 1
    assert shown(name) == before
    gc(store)
    assert shown(name) == before
    assert len(runs(name)) == 2  # it stays an alias of the copy
    migrate(store, executor())
    gc(store)
    assert len(runs(name)) == 2


def test_other_aliases_keep_the_old_vectors(server: Server, name: str) -> None:
    fill(client(), documents(10), f"{name}-2025")
    alias(name, f"{name}-2025")
    alias(f"{name}-other", f"{name}-2025")
    before = shown(f"{name}-other")
    store = QdrantServerStore(server.url, name)
    migrate(store, executor())
    gc(store)
    assert shown(f"{name}-other") == before
    with pytest.raises(StoreError, match="goes by the alias"):
        QdrantServerStore(server.url, f"{name}-2025")


def test_an_alias_that_is_made_meanwhile_is_not_lost(server: Server, name: str) -> None:
    fill(client(), documents(5), name)
    store = QdrantServerStore(server.url, name)
    migrate(store, executor(), publishes=False)
    alias(f"{name}-other", name)
    with pytest.raises(StoreError, match="goes by the alias"):
        publish(store)
    assert shown(name) == shown(f"{name}-other")
    rollback(store)
    client().update_collection_aliases(
        [models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=f"{name}-other"))]
    )
    assert migrate(store, executor()).in_use == "new"


def test_every_setting_is_kept(server: Server, name: str) -> None:
    known = client()
    scalar = models.ScalarQuantizationConfig(type=models.ScalarType.INT8, quantile=0.99, always_ram=True)
    params = models.VectorParams(
        size=OLD_DIMENSIONS,
        distance=models.Distance.MANHATTAN,
        on_disk=True,
        hnsw_config=models.HnswConfigDiff(m=24),
        quantization_config=models.ScalarQuantization(scalar=scalar),
    )
    image = models.VectorParams(size=3, distance=models.Distance.COSINE, datatype=models.Datatype.FLOAT16)
    words = models.SparseVectorParams(
        modifier=models.Modifier.IDF, index=models.SparseIndexParams(on_disk=True, full_scan_threshold=99)
    )
    known.create_collection(
        name,
        vectors_config={"text": params, "image": image},
        sparse_vectors_config={"words": words},
        shard_number=3,
        replication_factor=2,
        write_consistency_factor=2,
        on_disk_payload=False,
        hnsw_config=models.HnswConfigDiff(m=0, payload_m=12, ef_construct=77, on_disk=True),
        optimizers_config=models.OptimizersConfigDiff(indexing_threshold=123, default_segment_number=2),
        wal_config=models.WalConfigDiff(wal_capacity_mb=7),
        quantization_config=models.BinaryQuantization(binary=models.BinaryQuantizationConfig(always_ram=True)),
        strict_mode_config=models.StrictModeConfig(enabled=True, max_query_limit=50, upsert_max_batchsize=7),
        metadata={"owner": "ada", "nested": {"a": [1, None]}},
    )
    tenant = models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, is_tenant=True, on_disk=True)
    known.create_payload_index(name, "metadata.source", tenant)
    known.create_payload_index(name, "metadata.page", models.PayloadSchemaType.INTEGER)
    sparse = [models.SparseVector(**each.model_dump()) for each in Words().embed_documents(["a b", "c"])]
    dense = vectors(2, OLD_DIMENSIONS).tolist()
    points = [
        {"text": dense[0], "image": [1.0, 2.0, 2.5], "words": sparse[0]},
        {"image": [0.1, 0.2, 0.7], "words": sparse[1]},
        {"text": dense[1]},
    ]
    known.upsert(
        name,
        [
            models.PointStruct(id=at, vector=each, payload={"page_content": f"text {at}", "metadata": {"page": at}})
            for at, each in enumerate(points)
        ],
    )
    before, rows = known.get_collection(name), shown(name)
    store = QdrantServerStore(server.url, f"{name}:text")
    info = store.describe()
    assert (info.metric, info.count) == ("manhattan", 2)
    assert [(each.code, each.count) for each in info.findings] == [("missing-vectors", 1)]
    migrate(store, executor())
    after, changed = known.get_collection(name), shown(name)
    expected = before.model_copy(deep=True)
    assert isinstance(expected.config.params.vectors, dict)
    expected.config.params.vectors["text"].size = NEW_DIMENSIONS
    metadata = after.config.metadata or {}
    assert metadata.pop("mlxi_embedding")
    assert (after.config, after.payload_schema) == (expected.config, expected.payload_schema)
    for old, new in zip(rows, changed, strict=True):
        assert old[:2] == new[:2]
        assert {k: v for k, v in old[2].items() if k != "text"} == {k: v for k, v in new[2].items() if k != "text"}
    assert [len(each[2].get("text", ())) for each in changed] == [NEW_DIMENSIONS, 0, NEW_DIMENSIONS]
    rollback(store)
    assert known.get_collection(name).config == before.config
    assert shown(name) == rows


def test_langchain_finds_its_documents_afterwards_and_the_guard_accepts_it(server: Server, name: str) -> None:
    params = models.VectorParams(size=OLD_DIMENSIONS, distance=models.Distance.COSINE)
    contents = documents(30)
    known = client()
    known.create_collection(
        name, vectors_config={"title": params}, sparse_vectors_config={"words": models.SparseVectorParams()}
    )
    known.upsert(name, hybrid_points(contents, "title"))
    embeddings = MLXEmbeddings(model="new-model", backend=backend())

    def opened() -> QdrantVectorStore:
        return hybrid(client(), name, embeddings, "title")

    with pytest.raises(EmbeddingMismatchError) as refused:
        verify_store(opened())
    assert f"mlxi migrate run {server.url} --name {name} --model new-model" in str(refused.value.hint)
    before = [each[2]["words"] for each in shown(name)]
    store = open_store(server.url, name)
    migrate(store, executor())
    assert [each[2]["words"] for each in shown(name)] == before
    assert verify_store(opened()).differences(executor().fingerprint()) == ()
    (found,) = opened().similarity_search(contents[13].text, k=1)
    assert (found.page_content, found.metadata["page"]) == (contents[13].text, 13)
    opened().add_texts(["A new one."])
    assert opened().similarity_search("A new one.", k=1)[0].page_content == "A new one."
    with pytest.raises(StoreChangedError):
        rollback(store)


def test_llama_index_finds_its_nodes_afterwards_and_the_guard_accepts_it(server: Server, name: str) -> None:
    nodes = flat_nodes(20, [f"00000000-0000-0000-0000-{number:012d}" for number in range(20)])
    storage = StorageContext.from_defaults(vector_store=LlamaIndexQdrant(name, client=client()))
    VectorStoreIndex(nodes, storage_context=storage, embed_model=MockEmbedding(embed_dim=OLD_DIMENSIONS))
    model = MLXEmbedding(model_name="new-model", backend=backend())

    def opened() -> VectorStoreIndex:
        vector_store = LlamaIndexQdrant(name, client=client())
        return guarded_index(VectorStoreIndex.from_vector_store(vector_store, embed_model=model))

    with pytest.raises(EmbeddingMismatchError):
        verify_index(opened())
    store = QdrantServerStore(server.url, name)
    expected = {node.node_id: node.get_content(MetadataMode.EMBED) for node in nodes}
    assert {row.id: row.text for row in store.rows()} == expected
    schema = client().get_collection(name).payload_schema
    assert schema  # LlamaIndex makes indexes of its own
    before = [each[:2] for each in shown(name)]
    migrate(store, executor())
    assert [each[:2] for each in shown(name)] == before
    assert client().get_collection(name).payload_schema == schema
    assert verify_index(opened()).differences(executor().fingerprint()) == ()
    (found,) = opened().as_retriever(similarity_top_k=1).retrieve(expected[nodes[13].node_id])
    assert (found.node.node_id, found.text) == (nodes[13].node_id, nodes[13].text)


def test_a_key_is_asked_for_used_and_kept_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QDRANT_API_KEY", raising=False)
    with serving("the-secret") as server:
        with pytest.warns(UserWarning, match="insecure connection"):
            known = QdrantClient(url=server.url, api_key="the-secret", check_compatibility=False)
        fill(known, documents(5))
        for wrong in (server.url, server.url.replace("//", "//:wrong@")):
            with pytest.raises(StoreError, match="wants another key") as refused:
                open_store(wrong)
            assert "QDRANT_API_KEY" in str(refused.value.hint)
            assert "wrong" not in str(refused.value)
        store = open_store(server.url.replace("//", "//:the-secret@"))
        assert store.location.address == server.url
        migrate(store, executor(), work=tmp_path)
        monkeypatch.setenv("QDRANT_API_KEY", "the-secret")
        assert open_store(server.url).describe().dimensions == (NEW_DIMENSIONS,)
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 2
    assert not any(b"the-secret" in content for content in written)


@pytest.mark.usefixtures("quick")
def test_what_gets_no_answer_is_asked_again(server: Server, name: str) -> None:
    fill(client(), documents(20), name)
    store = QdrantServerStore(server.url, name)
    server.faults |= {
        "scroll": [503, 500],
        "upsert": [502],
        "create": [500],
        "change_aliases": [500],
        "delete": [500],
        "count": [1.2],
        "get_aliases": [500],
    }
    assert migrate(store, executor()).in_use == "new"
    assert not any(server.faults.values())
    rollback(store)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("method", ["scroll", "upsert", "create", "delete", "change_aliases"])
def test_a_server_that_fails_is_told_and_the_run_goes_on_later(server: Server, name: str, method: str) -> None:
    fill(client(), documents(20), name)
    before = shown(name)
    store = QdrantServerStore(server.url, name)
    server.faults[method] = [500] * 3
    with pytest.raises(StoreBusyError, match="failed with 500"):
        migrate(store, executor())
    known = client()
    if known.collection_exists(name):
        assert shown(name) == before
    assert migrate(QdrantServerStore(server.url, name), executor()).in_use == "new"
    assert len(shown(name)[0][2]) == NEW_DIMENSIONS
    rollback(store)
    assert shown(name) == before


def test_a_change_while_it_is_copied_is_told(server: Server, name: str) -> None:
    fill(client(), documents(10), name)
    store = QdrantServerStore(server.url, name)
    written = 0

    def changes(method: str) -> None:
        nonlocal written
        written += method == "upsert"
        if method == "upsert" and written == 2:
            late = models.PointStruct(id=500, vector=[1.0] * OLD_DIMENSIONS, payload={"page_content": "late"})
            with server.backend.lock:
                server.backend.client.upsert(name, [late])

    server.before = changes
    try:
        with pytest.raises(StoreChangedError, match="while it was copied"):
            migrate(store, executor())
    finally:
        server.before = lambda method: None
    assert migrate(store, executor()).embedded == 11
    assert len(shown(name)) == 11


def test_a_change_in_the_moment_of_publishing_is_not_lost(server: Server, name: str) -> None:
    fill(client(), documents(10), name)
    store = QdrantServerStore(server.url, name)
    migrate(store, executor(), publishes=False)
    looked = 0

    def changes(method: str) -> None:
        nonlocal looked
        looked += method == "scroll"
        if method == "scroll" and looked == 2:  # the first one was to see whether it is as it was embedded
            server.before = lambda method: None
            with server.backend.lock:
                server.backend.client.set_payload(name, {"page_content": "changed"}, points=[0])

    server.before = changes
    with pytest.raises(StoreChangedError):
        publish(store)
    assert shown(name)[0][1]["page_content"] == "changed"
    assert runs(name) >= {name}
    assert migrate(store, executor()).in_use == "new"
    assert shown(name)[0][1]["page_content"] == "changed"


def test_rows_without_text_are_left_out_only_when_that_is_accepted(server: Server, name: str) -> None:
    fill(client(), documents(4), name)
    texts: list[Any] = [None, "", " ", 7]
    client().upsert(
        name,
        [
            models.PointStruct(id=100 + at, vector=[1.0] * OLD_DIMENSIONS, payload={"page_content": text})
            for at, text in enumerate(texts)
        ],
    )
    store = QdrantServerStore(server.url, name)
    (finding,) = store.describe().findings
    assert (finding.code, finding.examples, finding.is_blocking) == ("missing-texts", ("100", "101"), True)
    with pytest.raises(RowsError):
        migrate(store, executor())
    assert migrate(store, executor(), accept=True).embedded == 4
    assert len(shown(name)) == 4
    rollback(store)
    assert len(shown(name)) == 8


def test_requests_stay_below_what_a_server_takes(server: Server, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST_BYTES", 400_000)
    monkeypatch.setattr(qdrant_server, "_WRITTEN_BYTES", 100_000)
    contents = [Document(id=f"doc-{at:05d}", text=f"{at} " + "x" * 20_000, metadata={}) for at in range(40)]
    for first in range(0, 40, 10):
        fill(client(), contents[first : first + 10], name)
    server.log.clear()
    assert migrate(QdrantServerStore(server.url, name), executor(max_tokens=4)).embedded == 40
    assert server.kinds().count("upsert") >= 2 * 10


def test_a_name_is_taken_where_there_is_one_only() -> None:
    with serving() as server:
        with pytest.raises(StoreError, match="0 collections"):
            open_store(server.url)
        known = QdrantClient(url=server.url, check_compatibility=False)
        fill(known, documents(3))
        assert open_store(f"{server.url}/").location.name == "notes"
        fill(known, documents(3), "other")
        with pytest.raises(StoreError, match="2 collections") as several:
            open_store(server.url)
        assert "notes, other" in str(several.value.hint)
        with pytest.raises(StoreError, match="no collection `third`"):
            open_store(server.url, "third")


def test_shards_of_its_owners_own_making_are_refused(server: Server, name: str) -> None:
    fill(client(), documents(3), name, sharding_method=models.ShardingMethod.CUSTOM)
    before = shown(name)
    with pytest.raises(StoreError, match="shards"):
        migrate(QdrantServerStore(server.url, name), executor())
    assert shown(name) == before
    assert runs(name) == {name}


@pytest.mark.usefixtures("quick")
def test_what_is_no_qdrant_is_told() -> None:
    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "5")
            self.end_headers()
            self.wfile.write(b"hello")

        def log_message(self, format: str, *args: Any) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Other) as other:
        url = f"http://127.0.0.1:{other.server_address[1]}"
        thread = threading.Thread(target=other.serve_forever, args=(0.01,))
        thread.start()
        with pytest.raises(StoreError, match="is no Qdrant"):
            open_store(url)
        other.shutdown()
        thread.join()
    with pytest.raises(StoreBusyError, match="does not answer"):
        open_store(url)


def test_its_client_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "qdrant_client", None)
    with pytest.raises(MissingExtraError, match="qdrant"):
        open_store("http://localhost:1")
