"""Numbers of 16 and 17 digits, which a Qdrant server reads as their neighbours: they stop no migration."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from qdrant_client import models
from tokenizers import Tokenizer

from mlx_integrations.migration.api import gc, migrate, rollback
from mlx_integrations.migration.moving import Move
from mlx_integrations.migration.stores.faiss.langchain import LangChainFaissStore
from mlx_integrations.migration.stores.json_numbers import as_read, settled
from mlx_integrations.migration.stores.qdrant.collection import QdrantServerStore
from mlx_integrations.migration.targets.langchain_faiss import FaissTarget
from mlx_integrations.migration.targets.qdrant import QdrantServerTarget
from tests.migration.qdrant_stores import client
from tests.migration.stores import OLD_DIMENSIONS, executor, save_faiss, texts
from tests.migration.test_qdrant import shown
from tests.qdrant_server import Server, read_number

pytestmark = pytest.mark.usefixtures("qdrant")

PLAIN = [0.0, -0.0, 1.0, 0.1, 72.024, 1e22, 123456789.125, float("nan"), 3, 2**64, "0.1", None, True]


def numbers(count: int) -> list[float]:
    chance = random.Random(0)
    return [chance.random() * 10.0 ** chance.randint(-9, 9) for _ in range(count)]


def whole_numbers(count: int) -> list[float]:
    """Of 15 digits, and a zero: with `.0` they are written with more than can be scaled exactly."""
    chance = random.Random(0)
    return [10.0 * chance.randint(10**14, 10**15 - 1) for _ in range(count)]


def test_numbers_are_read_as_the_parser_of_the_server_does() -> None:
    made = numbers(3000) + whole_numbers(100)
    vocabulary = [[f"t{place}", number] for place, number in enumerate(made)]
    model = {"type": "Unigram", "unk_id": 0, "vocab": vocabulary, "byte_fallback": False}
    parsed = Tokenizer.from_str(json.dumps({"version": "1.0", "added_tokens": [], "model": model}))  # by `serde_json`
    expected = [number for _, number in json.loads(parsed.to_str())["model"]["vocab"]]
    assert 100 < sum(old != new for old, new in zip(made, expected, strict=True)) < 600
    assert [as_read(number) for number in made] == expected
    assert [read_number(repr(number)) for number in made] == expected


def test_a_number_and_what_a_server_makes_of_it_are_the_same() -> None:
    extreme = [number * 10.0 ** random.Random(1).randint(-290, 290) for number in numbers(500)]
    made = [*numbers(2000), *whole_numbers(500), *extreme, 5e-324, 1.7976931348623157e308]
    assert settled([as_read(number) for number in made]) == settled(made)
    assert settled(settled(made)) == settled(made)
    assert all(abs(settled(number) - number) <= 3e-15 * abs(number) for number in numbers(2000))
    assert repr(settled({"a": [PLAIN]})) == repr({"a": [PLAIN]})


def fill_exactly(server: Server, name: str) -> list[dict[str, Any]]:
    """A collection as a program fills it over gRPC, with every number as it is."""
    payloads: list[dict[str, Any]] = [
        {"page_content": text, "metadata": {"score": number, "box": [number, {"deep": -number}]}}
        for text, number in zip(texts(60), numbers(60), strict=True)
    ]
    params = models.VectorParams(size=OLD_DIMENSIONS, distance=models.Distance.DOT)
    client().create_collection(name, vectors_config=params)
    with server.backend.lock:
        vector = [1.0] * OLD_DIMENSIONS
        server.backend.client.upsert(
            name, [models.PointStruct(id=at, vector=vector, payload=each) for at, each in enumerate(payloads)]
        )
    return payloads


def test_a_collection_with_such_numbers_is_copied_and_migrated(server: Server, name: str) -> None:
    payloads = fill_exactly(server, name)
    store = QdrantServerStore(server.url, name)
    assert migrate(store, executor()).in_use == "new"
    after = [each[1] for each in shown(name)]
    assert after == [
        {**each, "metadata": {"score": read, "box": [read, {"deep": -read}]}}
        for each in payloads
        for read in [as_read(each["metadata"]["score"])]
    ]
    assert after != payloads
    rollback(store)
    assert migrate(store, executor()).in_use == "new"
    assert gc(store)


def test_documents_with_such_numbers_are_moved_to_a_server_and_that_is_told(
    server: Server, name: str, tmp_path: Path
) -> None:
    metadata = [{"score": number, "page": place} for place, number in enumerate(numbers(60))]
    source = LangChainFaissStore(save_faiss(tmp_path / "store", texts(60), metadata=metadata))
    move = Move(source, QdrantServerTarget(server.url, name))
    _, finding = move.describe().findings  # the first one is of ids
    assert "`score`" in finding.message and not finding.is_blocking
    assert finding.count == sum(as_read(number) != number for number in numbers(60)) > 0
    assert migrate(move, executor()).in_use == "new"
    assert sorted(each[1]["metadata"]["score"] for each in shown(name)) == sorted(map(as_read, numbers(60)))


def test_such_numbers_are_moved_away_as_they_are(server: Server, name: str, tmp_path: Path) -> None:
    payloads = fill_exactly(server, name)
    move = Move(QdrantServerStore(server.url, name), FaissTarget(tmp_path / "new", "index"))
    assert migrate(move, executor()).in_use == "new"
    moved = {row.text: row.metadata for row in LangChainFaissStore(tmp_path / "new").rows()}
    assert moved == {each["page_content"]: each["metadata"] for each in payloads}
