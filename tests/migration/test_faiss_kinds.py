"""Every kind of index that FAISS makes, in a folder of LangChain: kept, or replaced by `Flat` as the plan says."""

import shutil
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from langchain_community.vectorstores import FAISS
from langchain_core.embeddings import DeterministicFakeEmbedding

from mlx_integrations.errors import StoreError, VerificationError
from mlx_integrations.migration.api import gc, migrate, rollback
from mlx_integrations.migration.planning import plan_migration
from mlx_integrations.migration.report.measure import measure_migration
from mlx_integrations.migration.stores.faiss.index import IndexFile, write_flat
from mlx_integrations.migration.stores.faiss.langchain import LangChainFaissStore
from tests.migration.stores import NEW_DIMENSIONS, OLD_DIMENSIONS, contents_of, executor, metadatas, texts, vectors

MANY, FEW = 300, 5


def save(folder: Path, index: Any, rows: int) -> LangChainFaissStore:
    """A folder that LangChain wrote; an index that has to be trained was trained when there was more in it."""
    from langchain_community.docstore.in_memory import InMemoryDocstore

    if not index.is_trained:
        index.train(vectors(MANY, OLD_DIMENSIONS, seed=7))
    store = FAISS(DeterministicFakeEmbedding(size=OLD_DIMENSIONS), index, InMemoryDocstore(), {})
    if rows:
        made = vectors(rows, OLD_DIMENSIONS).tolist()
        store.add_embeddings(list(zip(texts(rows), made, strict=True)), metadatas(rows))
    store.save_local(str(folder))
    return LangChainFaissStore(folder)


def opened(folder: Path) -> Any:
    embeddings = DeterministicFakeEmbedding(size=NEW_DIMENSIONS)
    return FAISS.load_local(str(folder), embeddings, allow_dangerous_deserialization=True)


@pytest.mark.parametrize(
    ("factory", "rows", "expected"),
    [
        ("HNSW16,PQ8x4", MANY, "HNSW16,PQ8x4"),
        ("HNSW16,PQ8x4", FEW, "Flat"),
        ("IVF16,Flat", FEW, "Flat"),
        ("IVF16,Flat", 0, "Flat"),
        ("IVF16_HNSW8,Flat", FEW, "Flat"),
        ("IMI2x3,Flat", 8, "IMI2x3,Flat"),
        ("IMI2x3,Flat", FEW, "Flat"),
        ("PQ8x4", FEW, "Flat"),
        ("PQ8x4,Refine(Flat)", FEW, "Flat"),
        ("IVF4,PQ8x4,RFlat", MANY, "IVF4,PQ8x4,Refine(Flat)"),
        ("IVF4,PQ8x4fs", MANY, "Flat"),
        ("PCA8,Flat", FEW, "Flat"),
        ("SQ8", FEW, "SQ8"),
        ("SQ8", 0, "Flat"),
        ("HNSW16", 0, "HNSW16"),
        ("HNSW16_SQfp16", 0, "HNSW16,SQfp16"),
        ("OPQ8_16,PQ8x4", FEW, "Flat"),
        ("L2norm,Flat", FEW, "Flat"),
        ("RQ4x4", FEW, "Flat"),
    ],
)
def test_a_kind_is_kept_or_the_plan_says_that_it_is_not(tmp_path: Path, factory: str, rows: int, expected: str) -> None:
    folder = tmp_path / "store"
    store = save(folder, faiss.index_factory(OLD_DIMENSIONS, factory), rows)
    before = contents_of(folder)
    assert plan_migration(store, executor()).index == expected
    migrate(store, executor())
    assert store.describe().index == expected
    measure_migration(store)
    rollback(store)
    assert before.items() <= contents_of(folder).items()
    migrate(store, executor())
    gc(store)
    assert opened(folder).index.ntotal == rows
    opened(folder).similarity_search("a text", k=2)


@pytest.mark.parametrize("factory", ["IVF16,Flat", "PQ8x4", "IDMap,Flat", "IVF2,PQ8x4fs"])
def test_what_cannot_be_built_is_refused_before_anything_is_embedded(tmp_path: Path, factory: str) -> None:
    store = save(tmp_path / "store", faiss.IndexFlatL2(OLD_DIMENSIONS), FEW)
    with pytest.raises(StoreError, match=factory):
        migrate(store, executor(), index=factory)
    assert [path.name for path in tmp_path.iterdir() if path.name != ".mlxi-migrate"] == ["store"]
    migrate(store, executor())


def test_an_empty_index_by_manhattan_distance_stays_one(tmp_path: Path) -> None:
    store = save(tmp_path / "store", faiss.IndexFlat(OLD_DIMENSIONS, faiss.METRIC_L1), 0)
    migrate(store, executor())
    assert store.describe().metric == "manhattan"


def test_the_way_out_of_an_index_that_compresses_too_much_is_another_index(tmp_path: Path) -> None:
    store = save(tmp_path / "store", faiss.index_factory(OLD_DIMENSIONS, "LSH"), MANY)
    with pytest.raises(VerificationError, match="nearer to other texts") as caught:
        migrate(store, executor())
    assert "--restart --index Flat" in caught.value.hint
    assert migrate(store, executor(), index="Flat", restart=True).in_use == "new"


def test_lists_in_another_file_are_told_and_stay_as_they_are(tmp_path: Path) -> None:
    index: Any = faiss.index_factory(OLD_DIMENSIONS, "IVF4,Flat")
    index.train(vectors(MANY, OLD_DIMENSIONS))
    file = tmp_path / "lists"
    lists = faiss.OnDiskInvertedLists(index.nlist, index.code_size, str(file))
    index.replace_invlists(lists)
    store = save(tmp_path / "store", index, MANY)
    before = file.read_bytes()
    file.chmod(0o400)
    assert [(each.code, each.examples) for each in store.describe().findings] == [("lists-elsewhere", (str(file),))]
    migrate(store, executor())
    gc(store)
    assert file.read_bytes() == before
    file.unlink()
    assert opened(tmp_path / "store").index.ntotal == MANY


def test_a_file_that_is_cut_off_while_it_is_read_does_not_end_the_process(tmp_path: Path) -> None:
    made = vectors(5000, OLD_DIMENSIONS)
    write_flat(tmp_path / "flat", OLD_DIMENSIONS, "euclidean", [made])
    shutil.copy(tmp_path / "flat", tmp_path / "other")
    index = IndexFile(tmp_path / "flat")
    wanted = [7, 8, 9, 4999, 0]
    assert np.array_equal(index.vectors(wanted), made[wanted])
    with (tmp_path / "flat").open("r+b") as file:  # as `faiss.write_index` does with a file that is there
        file.truncate(0)
    with pytest.raises(StoreError, match="cut off"):
        index.vectors(wanted)
