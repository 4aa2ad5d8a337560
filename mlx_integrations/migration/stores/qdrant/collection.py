"""Qdrant on a server: a collection that LangChain or LlamaIndex fills.

A collection has one size of vectors for ever and cannot be given another name, so the new vectors get a collection of
their own, and what programs ask for becomes an alias of it. Every step is marked by an alias, because several of them
change at once:

    notes.mlxi-RUN              the new collection, with all settings of the old one
    notes.mlxi-RUN.built        an alias of it: it is whole, and not in use
    notes.mlxi-RUN.kept         an alias of the old collection, while the new one is in use
    notes.mlxi-RUN.old          a copy of the old collection, see below

If `notes` is an alias already, publishing and rolling back are one request each, and nobody finds nothing.

If `notes` is the collection itself, no alias can have that name as long as it exists. So it is copied with its vectors
while the new one is built, the copy is compared, and publishing deletes the original and makes the alias: two requests,
one after the other, between which there is no `notes`. If that is cut off, publishing again makes the alias, and so
does rolling back. The old vectors exist at any moment, under one name or the other. Rolling back makes `notes` an alias
of the copy by one request, and an alias it stays.

Qdrant tells nobody that something was changed. So the state of a collection is a digest of everything that it shows
but the vectors that are made anew, and asking for it takes as long as reading that.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit, urlunsplit

from mlx_integrations.adapters.store_records.qdrant import record_in, with_record
from mlx_integrations.errors import SidecarError, StoreChangedError, StoreError
from mlx_integrations.migration.likely import likely_model
from mlx_integrations.migration.protocol import Embedded, Published, Run
from mlx_integrations.migration.records import Document, Finding, Row, StoreInfo, StoreLocation
from mlx_integrations.migration.stores.qdrant.layout import (
    CONTENT,
    DETECTED_POINTS,
    METRICS,
    UNNAMED,
    Layout,
    Names,
    chosen_name,
    chosen_vector,
    content_key_of,
    index_of,
    missing_texts,
    models_of,
    others_of,
    split_name,
    without_vector,
)
from mlx_integrations.migration.stores.qdrant.server import Point, QdrantServer

if TYPE_CHECKING:  # a type only: importing this module stays fast
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["KIND", "MadeCollection", "QdrantServerStore", "address_and_key"]

KIND: Final = "qdrant-server"
_INDEX: Final = "HNSW"
_EXAMPLES: Final = 5


class _Reader:
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
        return self._location

    def describe(self) -> StoreInfo:
        known, layout = self._server.info(self._name), self._layout()
        params = _params(known)[layout.vector]
        count = self._server.count(self._name, layout.vector)
        try:
            record = record_in(_metadata(known), f"the Qdrant collection `{self._name}`")
        except SidecarError:
            record = None
        return StoreInfo(
            location=self._location,
            count=count,
            dimensions=(int(params.size),) if count else (),
            metric=METRICS.get(str(params.distance.value), "unknown"),
            index=_INDEX,
            fingerprint=record,
            likely_model=likely_model(
                (int(params.size),) if count else (), fingerprint=record, hints=models_of(layout.vector)
            ),
            is_exact=str(getattr(params.datatype, "value", "float32")) == "float32",
            findings=tuple(self._findings(layout, count)),
            extra={"vector": layout.vector, "content_key": layout.content_key},
        )

    def rows(self, after: str | None = None) -> Iterator[Row]:
        layout = self._layout()
        first = None if after is None else _id_of(after)
        for point in self._server.points(self._name, first, vectors=self._others(), having=layout.vector):
            others = {name: each for name, each in point.vectors.items() if name != layout.vector}
            yield layout.row(str(point.id), point.id, point.payload, others)

    def documents(self, after: str | None = None) -> Iterator[Document]:
        layout = self._layout()
        return map(layout.document, self.rows(after))

    def vectors(self, keys: Sequence[str]) -> "NDArray[np.float32]":
        import numpy as np

        known = self._server.info(self._name)
        vector = _vector_of(known, self._vector, str(self._location))
        asked = True if vector == UNNAMED else [vector]
        found = self._server.find(self._name, sorted({_id_of(key) for key in keys}, key=str), asked)
        try:
            made = [found[key].vectors[vector] for key in keys]
        except KeyError as error:
            message = f"`{self._location}` has no vector of `{error.args[0]}`."
            raise StoreError(message, store=str(self._location)) from None
        return np.array(made, np.float32).reshape(len(keys), int(_params(known)[vector].size))

    def state(self) -> str:
        return self._server.digest(self._name, self._others())

    def close(self) -> None:
        self._server.close()

    def _layout(self) -> Layout:
        vector = _vector_of(self._server.info(self._name), self._vector, str(self._location))
        if not self._content_key:
            first = islice(self._server.points(self._name, page=DETECTED_POINTS), DETECTED_POINTS)
            payloads = [point.payload for point in first]
            key = content_key_of(payloads, str(self._location))
            if not payloads:
                return Layout(vector=vector, content_key=key)
            self._content_key = key
        return Layout(vector=vector, content_key=self._content_key)

    def _others(self) -> list[str]:
        """The names of all vectors that are not made anew."""
        known = self._server.info(self._name)
        names = [*_params(known), *(known.config.params.sparse_vectors or {})]
        vector = _vector_of(known, self._vector, str(self._location))
        return [name for name in names if name != vector]

    def _findings(self, layout: Layout, count: int) -> Iterator[Finding]:
        missing, examples = self._server.without_text(self._name, layout.content_key, _EXAMPLES)
        if missing:
            yield missing_texts(missing, examples)
        if without := self._server.count(self._name) - count:
            yield without_vector(without, layout.vector)


class QdrantServerStore(_Reader):
    """A collection of a server. Implements `Store`.

    Args:
        url: The address, such as `http://localhost:6333`; a key in it, as in `https://:KEY@host`, is used and not kept.
        name: The collection or the alias; the only one there is if left out. `notes:title` names one of several dense
            vectors of each point, too.
        api_key: The key of the server; the one in the address, or in QDRANT_API_KEY, if left out.
        content_key: The key of the texts in payloads, if it is not `page_content` and cannot be guessed.
        environ: Where QDRANT_API_KEY is looked for.

    Raises:
        StoreError: There is no such collection, or there are several and none is named; or the key is not the server's.
        StoreBusyError: The server does not answer.
    """

    def __init__(
        self,
        url: str,
        name: str | None = None,
        *,
        api_key: str | None = None,
        content_key: str = "",
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        address, key = address_and_key(url, api_key, environ)
        server = QdrantServer(address, key)
        wanted, vector = split_name(name)
        chosen = chosen_name(wanted, server.collections(), server.aliases(), address)
        shown = chosen if vector is None else f"{chosen}:{vector}"
        location = StoreLocation(kind=KIND, address=address, name=shown)
        super().__init__(location, server, chosen, vector, content_key)

    def index_for(self, dimensions: int, wanted: str = "") -> str:
        """The kind of index that `build` makes: a server has one only, with settings of the collection.

        Raises:
            StoreError: Another one is wanted.
        """
        return index_of(_INDEX, wanted, str(self.location))

    def build(self, run: Run, rows: Iterator[Embedded]) -> None:
        """Fill a collection of its own with the new vectors and everything else of the old one."""
        self.index_for(run.fingerprint.dimensions, run.index)
        server, names, known = self._server, self._names(run), self._server.info(self._name)
        if str(getattr(known.config.params.sharding_method, "value", "auto")) == "custom":
            raise StoreError(f"`{self.location}` has shards of its owner's own making.", store=str(self.location))
        layout, aliases = self._layout(), server.aliases()
        in_use = {collection for alias, collection in aliases.items() if alias not in (names.built, names.kept)}
        server.change_aliases({}, [alias for alias in (names.built, names.kept) if alias in aliases])
        for name in {names.new, names.copy} - in_use:
            server.delete(name)
        metadata = with_record(_metadata(known), run.fingerprint)
        server.create_like(names.new, known, _resized(known, layout.vector, run.fingerprint.dimensions), metadata)
        most = getattr(getattr(known.config, "strict_mode_config", None), "upsert_max_batchsize", None)
        new = (
            _point(layout, row, vector)
            for each in rows
            for row, vector in zip(each.rows, each.vectors.tolist(), strict=True)
        )
        rest = server.points(self._name, vectors=True, lacking=layout.vector)
        server.write(names.new, chain(new, rest), most)
        if self._name not in aliases:
            self._copy(names, known, most)
        server.wait_until_indexed(names.new)
        server.change_aliases({names.built: names.new})

    def _copy(self, names: Names, known: Any, most: int | None) -> None:
        """Copy the collection, which cannot be given another name, with its vectors."""
        server = self._server
        server.create_like(names.copy, known, known.config.params.vectors, _metadata(known))
        server.write(names.copy, server.points(self._name, vectors=True), most)
        if server.digest(names.copy, True) != server.digest(self._name, True):
            raise self._changed()
        server.wait_until_indexed(names.copy)

    def built(self, run: Run) -> _Reader:
        """The new collection."""
        names, aliases = self._names(run), self._server.aliases()
        if names.new not in (aliases.get(names.built), aliases.get(self._name)):
            raise self._not_built()
        return self._shown(names.new)

    def replaced(self, run: Run) -> _Reader:
        """The old collection, or its copy."""
        names, aliases = self._names(run), self._server.aliases()
        if aliases.get(self._name) == names.new or names.kept in aliases:
            if names.kept not in aliases:
                raise self._no_longer_there()
            return self._shown(aliases[names.kept])
        if names.built not in aliases:
            raise self._not_built()
        return self._shown(aliases.get(self._name, self._name))

    def published(self, run: Run) -> Published:
        """Which vectors are in use, by what the name stands for."""
        names, aliases = self._names(run), self._server.aliases()
        if aliases.get(self._name) == names.new:
            return "between" if names.built in aliases else "new"
        return "old" if self._name in aliases or self._name in self._server.collections() else "between"

    def publish(self, run: Run) -> None:
        """Let the name stand for the new collection."""
        server, names, aliases = self._server, self._names(run), self._server.aliases()
        target = aliases.get(self._name)
        if target == names.new:
            server.change_aliases({}, {names.built} & aliases.keys())
            return
        if aliases.get(names.built) != names.new:
            raise self._not_built()
        if target is not None:
            server.change_aliases({names.kept: target, self._name: names.new}, [names.built])
            return
        if self._name in server.collections():
            self._make_room(names, aliases)
        elif names.kept not in aliases:
            raise self._no_longer_there()
        server.change_aliases({self._name: names.new}, [names.built])

    def _make_room(self, names: Names, aliases: Mapping[str, str]) -> None:
        """Delete the collection of the name, of which there is a copy."""
        server = self._server
        if others := sorted(alias for alias, collection in aliases.items() if collection == self._name):
            raise StoreError(
                f"The collection `{self._name}` goes by the alias `{others[0]}` since a short while.",
                store=str(self.location),
                hint="Delete that alias, or roll back and migrate the collection by it.",
            )
        if server.digest(names.copy, self._others()) != self.state():
            raise self._changed()
        server.change_aliases({names.kept: names.copy})
        server.delete(self._name)

    def rollback(self, run: Run) -> None:
        """Let the name stand for the old collection again, or for its copy."""
        server, names, aliases = self._server, self._names(run), self._server.aliases()
        is_there = self._name in server.collections()
        if not is_there and aliases.get(self._name) in (names.new, None):
            if names.kept not in aliases:
                raise self._no_longer_there()
            server.change_aliases({names.built: names.new, self._name: aliases[names.kept]}, [names.kept])
        elif names.built not in aliases:
            raise self._no_longer_there()
        else:
            server.change_aliases({}, {names.kept} & aliases.keys())

    def discard(self, run: Run) -> None:
        """Delete the collections that are not in use. One that has another alias stays, as nothing was said of that."""
        if self.published(run) == "between":
            self.rollback(run)
        server, names, aliases = self._server, self._names(run), self._server.aliases()
        marks = {names.built, names.kept} & aliases.keys()
        in_use = {collection for alias, collection in aliases.items() if alias not in marks}
        old = {aliases[names.kept]} if names.kept in aliases else set()
        for collection in sorted({names.new, names.copy, *old} - in_use - {self._name}):
            server.delete(collection)
        server.change_aliases({}, marks & server.aliases().keys())

    def _shown(self, name: str) -> _Reader:
        """A collection that belongs to a run; it has the connection for itself, as it is closed by whoever asks."""
        return _Lent(self.location, self._server, name, self._vector, self._content_key)

    def _names(self, run: Run) -> Names:
        return Names(self._name, run.id)

    def _not_built(self) -> StoreError:
        return StoreError(f"Nothing was built for `{self.location}`.", store=str(self.location))

    def _no_longer_there(self) -> StoreError:
        return StoreError(f"The old vectors of `{self.location}` are no longer there.", store=str(self.location))

    def _changed(self) -> StoreChangedError:
        return StoreChangedError(f"`{self.location}` was changed while it was copied.", store=str(self.location))


class _Lent(_Reader):
    """A collection that is read over the connection of the store."""

    def close(self) -> None: ...


class MadeCollection(_Reader):
    """A collection that a run made, by its own name.

    Args:
        location: Of the store that it is to be.
        url: The address, without a key.
        api_key: The key of the server.
        name: Of the collection.
    """

    def __init__(self, location: StoreLocation, url: str, api_key: str | None, name: str) -> None:
        super().__init__(location, QdrantServer(url, api_key), name, None, CONTENT)


def address_and_key(
    url: str, api_key: str | None = None, environ: Mapping[str, str] = os.environ
) -> tuple[str, str | None]:
    """The address of a server without the key in it, and the key that is to be used."""
    address, key = _without_key(url)
    return address, api_key or key or environ.get("QDRANT_API_KEY")


def _without_key(url: str) -> tuple[str, str | None]:
    """An address without the key in it, and the key."""
    try:
        parts = urlsplit(url)
        place = parts.netloc.rpartition("@")[2]
        key = parts.password or parts.username
    except ValueError as error:
        raise StoreError("The address is no URL of a server.", store="qdrant") from error
    return urlunsplit((parts.scheme, place, parts.path.rstrip("/"), "", "")), unquote(key) if key else None


def _metadata(known: Any) -> Mapping[str, Any]:
    """Of a collection; servers before 1.16 keep none."""
    return getattr(known.config, "metadata", None) or {}


def _params(known: Any) -> dict[str, Any]:
    """The parameters of each dense vector."""
    vectors = known.config.params.vectors or {}
    return dict(vectors) if isinstance(vectors, Mapping) else {UNNAMED: vectors}


def _resized(known: Any, vector: str, size: int) -> Any:
    """The parameters of all dense vectors, one of them for vectors of another size."""
    made = {
        name: params.model_copy(update={"size": size}) if name == vector else params
        for name, params in _params(known).items()
    }
    return made if isinstance(known.config.params.vectors, Mapping) else made[UNNAMED]


def _vector_of(known: Any, wanted: str | None, store: str) -> str:
    dense = {name: params.multivector_config is not None for name, params in _params(known).items()}
    return chosen_vector(wanted, dense, store)


def _id_of(key: str) -> int | str:
    return int(key) if key.isdecimal() else key


def _point(layout: Layout, row: Row, vector: list[float]) -> Point:
    return Point(id=_id_of(row.id), payload=layout.payload(row), vectors={**others_of(row), layout.vector: vector})
