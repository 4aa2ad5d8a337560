"""What is at a place is found out from its files."""

from pathlib import Path

import pytest

from mlx_integrations.errors import StoreError
from mlx_integrations.migration.api import migrate
from mlx_integrations.migration.contract import StoreContract, documents
from mlx_integrations.migration.stores.opening import open_store
from tests.migration.stores import executor
from tests.migration.test_chroma import TestChroma as Chroma
from tests.migration.test_in_memory import TestInMemory as InMemory
from tests.migration.test_langchain_faiss import TestLangChainFaiss as LangChainFaiss
from tests.migration.test_llama_index_faiss import TestLlamaIndexFaiss as LlamaIndexFaiss
from tests.migration.test_llama_index_simple import TestLlamaIndexSimple as LlamaIndexSimple


@pytest.mark.parametrize(
    ("contract", "file", "kind"),
    [
        (LangChainFaiss(), "", "langchain-faiss"),
        (InMemory(), "notes.json", "langchain-in-memory"),
        (LlamaIndexSimple(), "", "llama-index-simple"),
        (LlamaIndexFaiss(), "", "llama-index-faiss"),
        (Chroma(), "", "chroma"),
    ],
)
def test_every_kind_is_known_by_its_files(tmp_path: Path, contract: StoreContract, file: str, kind: str) -> None:
    contract.make(tmp_path / "store", documents(6))
    store = open_store(tmp_path / "store" / file)
    assert store.location == contract.open(tmp_path / "store").location
    assert store.location.kind == kind
    assert migrate(store, executor()).embedded == 6


def test_the_error_says_what_could_be_there(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no vector store") as caught:
        open_store(tmp_path)
    assert "persistent Chroma" in caught.value.hint
    (tmp_path / "text.json").write_text("[]")
    with pytest.raises(StoreError):
        open_store(tmp_path / "text.json").describe()
