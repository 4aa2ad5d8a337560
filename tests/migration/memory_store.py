"""A store that is a list, to be changed at will while it is read; and a model that makes vectors at once."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from mlx_integrations.errors import StoreError
from mlx_integrations.fingerprint import EmbeddingFingerprint
from mlx_integrations.migration.executors.protocol import LongTexts, Vectors
from mlx_integrations.migration.records import Row, StoreInfo, StoreLocation

DIMENSIONS = 4


class ListReader:
    """Implements `Reader`. Keys are the ids."""

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        self.contents = {row.key: row for row in rows}
        self.version = 0

    @property
    def location(self) -> StoreLocation:
        return StoreLocation(kind="list", address="a list")

    def put(self, row: Row) -> None:
        self.contents[row.key] = row
        self.version += 1

    def remove(self, key: str) -> None:
        del self.contents[key]
        self.version += 1

    def describe(self) -> StoreInfo:
        return StoreInfo(location=self.location, count=len(self.contents), dimensions=(8,), metric="cosine")

    def rows(self, after: str | None = None) -> Iterator[Row]:
        last = after
        while keys := [key for key in sorted(self.contents) if last is None or key > last]:
            last = keys[0]
            yield self.contents[last]

    def vectors(self, keys: Sequence[str]) -> NDArray[np.float32]:
        raise StoreError("it has none", store="a list")

    def state(self) -> str:
        return str(self.version)

    def close(self) -> None: ...


def row(key: str, text: str | None = "text", **metadata: object) -> Row:
    return Row(key=key, id=key, text=text, metadata=metadata)


def vector_of(text: str) -> NDArray[np.float32]:
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=DIMENSIONS * 2).digest()
    return np.frombuffer(digest, "<u2").astype(np.float32) + 1


class InstantExecutor:
    """Implements `Executor`; remembers what it embedded.

    Args:
        ahead: Batches that it reads before it gives any back, as a cluster does.
        refused: Texts that it cannot embed.
        not_finite: Texts that it makes a useless vector of.
    """

    def __init__(self, ahead: int = 0, refused: Sequence[str] = (), not_finite: Sequence[str] = ()) -> None:
        self.embedded: list[str] = []
        self._ahead = ahead
        self._refused = refused
        self._not_finite = not_finite

    @property
    def long_texts(self) -> LongTexts:
        return "truncate"

    def count_long(self, texts: Sequence[str]) -> int:
        return 0

    def fingerprint(self) -> EmbeddingFingerprint:
        return EmbeddingFingerprint(model="instant", dimensions=DIMENSIONS)

    def embed(self, batches: Iterable[Sequence[str]]) -> Iterator[Vectors]:
        waiting: list[Vectors] = []
        for texts in batches:
            waiting.append(self._made(texts))
            if len(waiting) > self._ahead:
                yield waiting.pop(0)
        yield from waiting

    def _made(self, texts: Sequence[str]) -> Vectors:
        self.embedded += texts
        vectors = np.array([vector_of(text) for text in texts], np.float32).reshape(len(texts), DIMENSIONS)
        for index, text in enumerate(texts):
            if text in self._not_finite:
                vectors[index, 0] = np.nan
        refused = {index: "it was refused" for index, text in enumerate(texts) if text in self._refused}
        return Vectors(
            vectors=vectors,
            refused=refused,
            truncated=frozenset(index for index, text in enumerate(texts) if len(text) > 20),
        )
