"""Folders that earlier versions of LangChain wrote, in `data/`: what `save_local` of each made of three texts.

They come from `FAISS.from_texts(texts, embeddings, metadatas=..., ids=["one", "two", "three"])`.
"""

import datetime
import shutil
from pathlib import Path

import pytest

from mlx_integrations.migration import migrate, open_store
from mlx_integrations.migration.contract import executor
from mlx_integrations.migration.stores.faiss.langchain_pickle import read_documents

FOLDERS = sorted((Path(__file__).parent / "data").glob("langchain-*"))
TEXTS = ["The library opens at nine.", "The museum is closed on Mondays.", "Ein Straßencafé."]
METADATA = [
    {"page": 1, "when": datetime.datetime(2024, 2, 29, 12, 30)},
    {"tags": ["a", "b"], "ratio": 0.5},
    {"nested": {"none": None, "set": (1, 2)}},
]


def test_there_is_one_of_each_layout() -> None:
    assert [folder.name.removeprefix("langchain-") for folder in FOLDERS] == [
        "0.0.200",
        "0.0.350",
        "0.1.20",
        "0.2.16",
        "0.3.27",
    ]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_folder_of_an_earlier_version_is_read_and_migrated(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "store"
    shutil.copytree(folder, copy)
    streamed = read_documents(copy / "index.pkl", streamed_bytes=0)
    assert [streamed.find(each) for each in streamed.ids] == list(zip(TEXTS, METADATA, strict=True))
    store = open_store(copy)
    assert [(row.id, row.text, row.metadata) for row in store.rows()] == list(
        zip(["one", "two", "three"], TEXTS, METADATA, strict=True)
    )
    assert migrate(store, executor()).in_use == "new"
    assert (copy / "index.pkl").read_bytes() == (folder / "index.pkl").read_bytes()
