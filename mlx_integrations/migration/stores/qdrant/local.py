"""Qdrant's local mode: a collection of a folder that `QdrantClient(path=...)` fills, of LangChain or LlamaIndex.

A collection has one size of vectors for ever, so the new ones get a collection of their own. What a folder shows is
what `meta.json` lists, and that file is replaced by one rename:

    collection/notes.mlxi-RUN.part      new, and being filled
    collection/notes.mlxi-RUN           new and whole; its `mlxi.json` has its settings, and what it replaces
    meta.json, before                   "collections": {"notes": ...}
    meta.json, after                    "collections": {"notes.mlxi-RUN": ...}, "aliases": {"notes": "notes.mlxi-RUN"}

So at any moment a program that opens the folder finds the old vectors by the name or the new ones, and nothing is
copied: the old collection stays where it is and is only no longer listed. A collection cannot simply take the name of
the old one, since its settings and its points are in two files. If the name was an alias before, the alias is given its
new collection by the same rename, and the old collection stays listed. The record of the model is part of a
collection's metadata.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mlx_integrations.adapters.store_records.qdrant import with_record
from mlx_integrations.errors import StoreChangedError, StoreError
from mlx_integrations.migration.files import flush_folder, take_over_rights
from mlx_integrations.migration.likely import likely_model
from mlx_integrations.migration.protocol import Embedded, Published, Run
from mlx_integrations.migration.records import Document, Row, StoreInfo, StoreLocation
from mlx_integrations.migration.stores.qdrant.findings import Look
from mlx_integrations.migration.stores.qdrant.folder import META, Meta, QdrantFolder, write_json, write_points
from mlx_integrations.migration.stores.qdrant.layout import (
    DETECTED_POINTS,
    METRICS,
    UNNAMED,
    Layout,
    Names,
    chosen_name,
    chosen_vector,
    content_key_of,
    index_of,
    models_of,
    others_of,
    own_id,
    record_of,
    split_name,
)
from mlx_integrations.migration.stores.qdrant.stored_point import StoredPoint

if TYPE_CHECKING:  # a type only: importing this module stays fast
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["KIND", "QdrantLocalStore"]

KIND: Final = "qdrant"
_NOTE: Final = "mlxi.json"
_INDEX: Final = "exact search"

Settings = dict[str, Any]
"""Of a collection, as `meta.json` has them."""


class _Reader:
    """A collection of a folder."""

    def __init__(self, location: StoreLocation, folder: QdrantFolder, vector: str | None, content_key: str) -> None:
        self._location = location
        self._folder = folder
        self._vector = vector
        self._content_key = content_key
        self._described: tuple[str, StoreInfo] | None = None
        self._layout: tuple[str, Layout] | None = None

    @property
    def location(self) -> StoreLocation:
        return self._location

    def describe(self) -> StoreInfo:
        collection, settings = self._target()
        state = f"{collection}:{self.state()}:{json.dumps(settings)}"
        if self._described is None or self._described[0] != state:
            self._described = state, self._look(collection, settings)
        return self._described[1]

    def rows(self, after: str | None = None) -> Iterator[Row]:
        collection, settings = self._target()
        layout = self._layout_of(collection, settings)
        first = 0 if after is None else int(after.partition(":")[0])
        for number, point in self._folder.points(collection).read(first):
            if point.dense(layout.vector) is not None:
                yield _row(layout, number, point)

    def documents(self, after: str | None = None) -> Iterator[Document]:
        layout = self._layout_of(*self._target())
        return map(layout.document, self.rows(after))

    def vectors(self, keys: Sequence[str]) -> "NDArray[np.float32]":
        import numpy as np

        collection, settings = self._target()
        vector = _vector_of(settings, self._vector, str(self._location))
        parts = [key.partition(":") for key in keys]
        points = self._folder.points(collection).find([(int(row), point_id) for row, _, point_id in parts])
        found = [None if point is None else point.dense(vector) for point in points]
        if None in found or len({len(each or ()) for each in found}) > 1:
            reason = "no such vector" if None in found else "vectors of several sizes"
            raise StoreError(f"`{self._location}` has {reason} among those asked for.", store=str(self._location))
        return np.array(found, np.float32).reshape(len(keys), len(found[0] or ()) if found else _size(settings, vector))

    def state(self) -> str:
        collection, _ = self._target()
        return self._folder.points(collection).state()

    def close(self) -> None: ...

    def _target(self) -> tuple[str, Settings]:
        """The collection that is read, and its settings."""
        raise NotImplementedError

    def _layout_of(self, collection: str, settings: Settings) -> Layout:
        if self._layout is not None and self._layout[0] == collection:
            return self._layout[1]
        points = islice(self._folder.points(collection).read(), DETECTED_POINTS)
        payloads = [point.payload for _, point in points]
        key = self._content_key or content_key_of(payloads, str(self._location))
        layout = Layout(vector=_vector_of(settings, self._vector, str(self._location)), content_key=key)
        if payloads:
            self._layout = collection, layout
        return layout

    def _look(self, collection: str, settings: Settings) -> StoreInfo:
        layout = self._layout_of(collection, settings)
        look, points = Look(layout.vector), self._folder.points(collection)
        for number, point in points.read():
            if (vector := point.dense(layout.vector)) is None:
                look.skip()
            else:
                look.add(_row(layout, number, point), point.payload, len(vector))
        sizes = look.sizes
        record = record_of(settings.get("metadata") or {}, collection)
        return StoreInfo(
            location=self._location,
            count=sizes.total(),
            dimensions=tuple(sorted(sizes)),
            metric=METRICS.get(_params(settings)[layout.vector]["distance"], "unknown"),
            index=_INDEX,
            fingerprint=record,
            likely_model=likely_model(tuple(sizes), fingerprint=record, hints=models_of(layout.vector)),
            bytes=points.path.stat().st_size,
            findings=tuple(look.findings(len(points.outdated()))),
            extra={"vector": layout.vector, "content_key": layout.content_key, "collection": collection},
        )


class _Fixed(_Reader):
    """A collection that a run knows by what it is, whatever the folder lists."""

    def __init__(self, reader: _Reader, collection: str, settings: Settings) -> None:
        super().__init__(reader._location, reader._folder, reader._vector, reader._content_key)
        self._fixed = collection, settings

    def _target(self) -> tuple[str, Settings]:
        return self._fixed


class QdrantLocalStore(_Reader):
    """A collection of a folder of Qdrant's local mode. Implements `Store`.

    Args:
        folder: The folder.
        name: The collection or the alias; the only one there is if left out. `notes:title` names one of several dense
            vectors of each point, too.
        content_key: The key of the texts in payloads, if it is not `page_content` and cannot be guessed.

    Raises:
        StoreError: There is no such folder or collection, or there are several and none is named.
        StoreBusyError: A program has the folder open.
    """

    def __init__(self, folder: str | Path, name: str | None = None, *, content_key: str = "") -> None:
        path = Path(os.path.realpath(Path(folder).expanduser()))
        opened = QdrantFolder(path)
        meta = opened.meta()
        wanted, vector = split_name(name)
        self._name = chosen_name(wanted, meta["collections"], meta["aliases"], str(folder))
        shown = self._name if vector is None else f"{self._name}:{vector}"
        super().__init__(StoreLocation(kind=KIND, address=str(path), name=shown), opened, vector, content_key)
        _vector_of(self._target()[1], vector, str(self._location))

    def index_for(self, dimensions: int, wanted: str = "") -> str:
        """The kind of index that `build` makes: the local mode has one only.

        Raises:
            StoreError: Another one is wanted.
        """
        return index_of(_INDEX, wanted, str(self.location))

    def build(self, run: Run, rows: Iterator[Embedded]) -> None:
        """Fill a collection of its own with the new vectors and everything else of the old one."""
        self.index_for(run.fingerprint.dimensions, run.index)
        collection, settings = self._target()
        state, names = self.state(), self._names(run)
        layout = self._layout_of(collection, settings)
        for name in (f"{names.new}.part", names.new):
            self._folder.delete(name)
        part = self._folder.collection(f"{names.new}.part")
        part.mkdir(parents=True)

        def points() -> Iterator[tuple[int | str, Any, dict[str, Any]]]:
            for each in rows:
                for row, vector in zip(each.rows, each.vectors.tolist(), strict=True):
                    yield own_id(row.id), _vectors(layout, row, vector), layout.payload(row)

        old = self._folder.points(collection)
        write_points(part, points(), old.raw(row for row, point in old.read() if point.dense(layout.vector) is None))
        if self.state() != state:
            raise StoreChangedError(f"`{self.location}` was changed while it was migrated.", store=str(self.location))
        note = {"settings": _changed(settings, layout.vector, run), "vector": layout.vector, "state": state}
        write_json(part / _NOTE, note)
        for file in part.iterdir():
            take_over_rights(file, old.path)
        take_over_rights(part, old.path.parent)
        part.rename(self._folder.collection(names.new))
        flush_folder(part.parent)

    def built(self, run: Run) -> _Reader:
        """The new collection."""
        new = self._names(run).new
        meta = self._folder.meta()
        settings = (
            meta["collections"].get(new) if meta["aliases"].get(self._name) == new else self._note(run)["settings"]
        )
        return _Fixed(self, new, settings)

    def replaced(self, run: Run) -> _Reader:
        """The old collection."""
        if self.published(run) == "new":
            name, settings = self._before(run)
            return _Fixed(self, name, settings)
        self._note(run)
        return _Fixed(self, *self._target())

    def kept_state(self, run: Run) -> str | None:
        """What `state` would say of the old collection; `None` if nobody can open it, or other aliases keep it."""
        kept = self._note(run).get("before", {}).get("alias")
        if kept is None or kept in self._folder.meta()["aliases"].values():
            return None
        return self._folder.points(kept).state()

    def published(self, run: Run) -> Published:
        """Which vectors are in use, by what the folder lists."""
        return "new" if self._folder.meta()["aliases"].get(self._name) == self._names(run).new else "old"

    def publish(self, run: Run) -> None:
        """Let the name stand for the new collection."""
        with self._folder.alone():
            if self.published(run) == "new":
                return
            new, meta, note = self._names(run).new, self._folder.meta(), self._note(run)
            if self.state() != note["state"]:  # by somebody who had it open a moment ago
                message = f"`{self.location}` was changed after it was embedded."
                raise StoreChangedError(message, store=str(self.location))
            target = meta["aliases"].get(self._name)
            kept = {"alias": target} if target is not None else _listed(meta, self._name)
            write_json(self._folder.collection(new) / _NOTE, {**note, "before": kept})
            entry = _listed(meta, target or self._name)  # as it is now: settings may have been changed since
            entry["settings"] = _changed(entry["settings"], note["vector"], run)
            if target is None:
                _replace(meta, self._name, new, entry)
            else:
                _replace(meta, new, new, entry)
            meta["aliases"][self._name] = new
            self._folder.write_meta(meta)

    def rollback(self, run: Run) -> None:
        """Let the name stand for the old collection again."""
        with self._folder.alone():
            if self.published(run) != "new":
                self._note(run, is_old_gone=True)
                return
            self._before(run)  # raises where it was deleted
            new, meta, kept = self._names(run).new, self._folder.meta(), self._note(run)["before"]
            del meta["aliases"][self._name]
            if "alias" in kept:
                _replace(meta, new, None, {})
                meta["aliases"][self._name] = kept["alias"]
            else:
                _replace(meta, new, self._name, kept)
            self._folder.write_meta(meta)

    def discard(self, run: Run) -> None:
        """Delete the collection that is not in use."""
        names = self._names(run)
        with self._folder.alone():
            self._folder.delete(f"{names.new}.part")
            if self.published(run) != "new":
                self._folder.delete(names.new)
                return
            place = self._folder.collection(names.new) / _NOTE
            if not place.exists():
                return
            meta, kept = self._folder.meta(), self._note(run).get("before", {})
            old = kept.get("alias", self._name)
            if old not in meta["aliases"].values():  # of other aliases of it, nothing was asked
                if old in meta["collections"]:
                    _replace(meta, old, None, {})
                    self._folder.write_meta(meta)
                self._folder.delete(old)
            place.unlink()

    def _target(self) -> tuple[str, Settings]:
        meta = self._folder.meta()
        collection = meta["aliases"].get(self._name, self._name)
        settings = meta["collections"].get(collection)
        if not isinstance(settings, dict):
            raise StoreError(
                f"`{self._folder.path}` has no collection `{self._name}` any more.", store=str(self._folder.path)
            )
        if not all(_is_whole(params) for params in _params(settings).values()):
            message = f"`{self._folder.path / META}` is damaged: it does not say of which size the vectors are."
            raise StoreError(message, store=str(self._folder.path), hint="Put it back from a copy.")
        return collection, settings

    def _names(self, run: Run) -> Names:
        return Names(self._name, run.id)

    def _note(self, run: Run, *, is_old_gone: bool = False) -> dict[str, Any]:
        """What a run wrote beside the points that it built."""
        try:
            note: dict[str, Any] = json.loads((self._folder.collection(self._names(run).new) / _NOTE).read_bytes())
        except FileNotFoundError:
            raise (
                self._no_longer_there()
                if is_old_gone
                else StoreError(f"Nothing was built for `{self.location}`.", store=str(self.location))
            ) from None
        return note

    def _before(self, run: Run) -> tuple[str, Settings]:
        """The collection that the run replaced."""
        kept = self._note(run, is_old_gone=True).get("before", {})
        name = kept.get("alias", self._name)
        settings = self._folder.meta()["collections"].get(name) if "alias" in kept else kept.get("settings")
        if settings is None or not self._folder.points(name).path.exists():
            raise self._no_longer_there()
        return name, settings

    def _no_longer_there(self) -> StoreError:
        return StoreError(f"The old vectors of `{self.location}` are no longer there.", store=str(self.location))


def _listed(meta: Meta, name: str) -> dict[str, Any]:
    """What `meta.json` has of a collection."""
    return {"settings": meta["collections"][name], "text_indexes": meta.get("text_indexes", {}).get(name)}


def _replace(meta: Meta, name: str, new: str | None, entry: Mapping[str, Any]) -> None:
    """List another collection in the place of one, or none."""
    for part, key in (("collections", "settings"), ("text_indexes", "text_indexes")):
        if part not in meta:
            if entry.get(key) is None:
                continue
            meta[part] = {}
        value = entry.get(key)
        replaced = {}
        for each, known in {**meta[part], **({} if name in meta[part] else {name: None})}.items():
            if each != name:
                replaced[each] = known
            elif new is not None and value is not None:
                replaced[new] = value
        meta[part] = replaced


def _params(settings: Settings) -> dict[str, Settings]:
    """The settings of each dense vector."""
    vectors = settings.get("vectors") or {}
    is_named = isinstance(vectors, dict) and not isinstance(vectors.get("size"), int)
    return dict(vectors) if is_named else {UNNAMED: vectors}


def _is_whole(params: Any) -> bool:
    """Whether these are settings of vectors, as clients write them."""
    return isinstance(params, dict) and isinstance(params.get("size"), int) and isinstance(params.get("distance"), str)


def _vector_of(settings: Settings, wanted: str | None, store: str) -> str:
    dense = {name: params.get("multivector_config") is not None for name, params in _params(settings).items()}
    return chosen_vector(wanted, dense, store)


def _size(settings: Settings, vector: str) -> int:
    return int(_params(settings)[vector]["size"])


def _changed(settings: Settings, vector: str, run: Run) -> Settings:
    """The settings of a collection for vectors of another size, with the record of their model."""
    params = {name: dict(each) for name, each in _params(settings).items()}
    params[vector]["size"] = run.fingerprint.dimensions
    is_unnamed = isinstance((settings.get("vectors") or {}).get("size"), int)
    metadata = with_record(settings.get("metadata") or {}, run.fingerprint)
    return {**settings, "vectors": params[vector] if is_unnamed else params, "metadata": metadata}


def _row(layout: Layout, number: int, point: StoredPoint) -> Row:
    return layout.row(f"{number}:{point.id}", point.id, point.payload, point.others(layout.vector))


def _vectors(layout: Layout, row: Row, vector: list[float]) -> Any:
    others = others_of(row)
    return vector if layout.vector == UNNAMED and not others else {layout.vector: vector, **others}
