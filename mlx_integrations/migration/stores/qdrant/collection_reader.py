"""A collection of a Qdrant server as it is read, by whatever name it has at the moment.

Qdrant tells nobody that something was changed. So the state of a collection is a digest of everything that it shows
but the vectors that are made anew, and asking for it takes as long as reading that.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from mlx_integrations.errors import StoreError
from mlx_integrations.migration.likely import likely_model
from mlx_integrations.migration.records import Document, Finding, Row, StoreInfo, StoreLocation
from mlx_integrations.migration.stores.findings import EXAMPLES, missing_texts
from mlx_integrations.migration.stores.json_numbers import settled
from mlx_integrations.migration.stores.qdrant.findings import without_vector
from mlx_integrations.migration.stores.qdrant.layout import (
    CONTENT,
    DETECTED_POINTS,
    METRICS,
    UNNAMED,
    Layout,
    chosen_vector,
    content_key_of,
    models_of,
    own_id,
    record_of,
)
from mlx_integrations.migration.stores.qdrant.point import Point
from mlx_integrations.migration.stores.qdrant.server import QdrantServer

if TYPE_CHECKING:  # a type only: importing this module stays fast
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["INDEX", "CollectionReader", "LentCollection", "MadeCollection", "metadata_of", "resized"]

INDEX: Final = "HNSW"


class CollectionReader:
    """A collection, by the name that it has at the moment."""

    def __init__(
        self, location: StoreLocation, server: QdrantServer, name: str, vector: str | None, content_key: str
    ) -> None:
        self._location = location
        self._server = server
        self._name = name
        self._vector = vector
        self._content_key = content_key

    @property
    def location(self) -> StoreLocation:
        """The server and the collection."""
        return self._location

    def describe(self) -> StoreInfo:
        """Look at the collection: counts, settings, and what is wrong with it."""
        name = self._shown_as()
        known, layout = self._server.info(name), self._layout(name)
        params = _params(known)[layout.vector]
        count = self._server.count(name, layout.vector)
        record = record_of(metadata_of(known), name)
        dimensions = (int(params.size),) if count else ()
        return StoreInfo(
            location=self._location,
            count=count,
            dimensions=dimensions,
            metric=METRICS.get(str(params.distance.value), "unknown"),
            index=INDEX,
            fingerprint=record,
            likely_model=likely_model(dimensions, fingerprint=record, hints=models_of(layout.vector)),
            is_exact=str(getattr(params.datatype, "value", "float32")) == "float32",
            findings=tuple(self._findings(name, layout, count)),
            extra={"vector": layout.vector, "content_key": layout.content_key},
        )

    def rows(self, after: str | None = None) -> Iterator[Row]:
        """Every point that has the vector, in the order of ids; what is to be written of it is carried by the row."""
        name = self._shown_as()
        layout = self._layout(name)
        for point in self._points(name, layout, after):
            payload = settled(point.payload)
            row = layout.row(str(point.id), point.id, payload, point.vectors)
            yield row if payload == point.payload else replace(row, carried=point.payload)

    def documents(self, after: str | None = None) -> Iterator[Document]:
        """The same points in the words of the framework that fills the collection."""
        name = self._shown_as()
        layout = self._layout(name)
        rows = (
            layout.row(str(point.id), point.id, point.payload, point.vectors)
            for point in self._points(name, layout, after)
        )
        return map(layout.document, rows)

    def vectors(self, keys: Sequence[str]) -> "NDArray[np.float32]":
        """The stored vectors of some points."""
        import numpy as np

        name = self._shown_as()
        known = self._server.info(name)
        vector = self._vector_of(known)
        asked = True if vector == UNNAMED else [vector]
        found = self._server.find(name, sorted({own_id(key) for key in keys}, key=str), asked)
        try:
            made = [found[key].vectors[vector] for key in keys]
        except KeyError as error:
            message = f"`{self._location}` has no vector of `{error.args[0]}`."
            raise StoreError(message, store=str(self._location)) from None
        return np.array(made, np.float32).reshape(len(keys), int(_params(known)[vector].size))

    def state(self) -> str:
        """A digest of all that it shows; it takes as long as reading that."""
        return self._state_of(self._shown_as())

    def close(self) -> None:
        """Close the connection."""
        self._server.close()

    def _shown_as(self) -> str:
        """The name of what is read."""
        return self._name

    def _points(self, name: str, layout: Layout, after: str | None) -> Iterator[Point]:
        """Points that have the vector, without it."""
        first = None if after is None else own_id(after)
        for point in self._server.points(name, first, vectors=self._others(name), having=layout.vector):
            yield replace(
                point, vectors={each: vector for each, vector in point.vectors.items() if each != layout.vector}
            )

    def _state_of(self, name: str) -> str:
        """A digest; beside it, as points can lose that vector and get it, how many have one that is made anew."""
        with_vector = self._server.count(name, self._vector_of(self._server.info(name)))
        return f"{self._server.digest(name, self._others(name))}:{with_vector}"

    def _layout(self, name: str) -> Layout:
        vector = self._vector_of(self._server.info(name))
        if not self._content_key:
            first = islice(self._server.points(name, page=DETECTED_POINTS), DETECTED_POINTS)
            payloads = [point.payload for point in first]
            key = content_key_of(payloads, str(self._location))
            if not payloads:
                return Layout(vector=vector, content_key=key)
            self._content_key = key
        return Layout(vector=vector, content_key=self._content_key)

    def _vector_of(self, known: Any) -> str:
        """The name of the vector that is made anew."""
        dense = {name: params.multivector_config is not None for name, params in _params(known).items()}
        return chosen_vector(self._vector, dense, str(self._location))

    def _others(self, name: str) -> list[str]:
        """The names of all vectors that are not."""
        known = self._server.info(name)
        vector = self._vector_of(known)
        names = [*_params(known), *(known.config.params.sparse_vectors or {})]
        return [each for each in names if each != vector]

    def _findings(self, name: str, layout: Layout, count: int) -> Iterator[Finding]:
        missing, examples = self._server.without_text(name, layout.content_key, EXAMPLES)
        if missing:
            yield missing_texts(missing, examples)
        if without := self._server.count(name) - count:
            yield without_vector(without, layout.vector)


class LentCollection(CollectionReader):
    """A collection that is read over the connection of the store."""

    def close(self) -> None:
        """Leave it open."""


class MadeCollection(CollectionReader):
    """A collection that a run made, by its own name.

    Args:
        location: Of the store that it is to be.
        url: The address, without a key.
        api_key: The key of the server.
        name: Of the collection.
    """

    def __init__(self, location: StoreLocation, url: str, api_key: str | None, name: str) -> None:
        super().__init__(location, QdrantServer(url, api_key), name, None, CONTENT)


def metadata_of(known: Any) -> Mapping[str, Any]:
    """Of a collection; servers before 1.16 keep none."""
    return getattr(known.config, "metadata", None) or {}


def _params(known: Any) -> dict[str, Any]:
    """The parameters of each dense vector."""
    vectors = known.config.params.vectors or {}
    return dict(vectors) if isinstance(vectors, Mapping) else {UNNAMED: vectors}


def resized(known: Any, vector: str, size: int) -> Any:
    """The parameters of all dense vectors, one of them for vectors of another size."""
    made = {
        name: params.model_copy(update={"size": size}) if name == vector else params
        for name, params in _params(known).items()
    }
    return made if isinstance(known.config.params.vectors, Mapping) else made[UNNAMED]
