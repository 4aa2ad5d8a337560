"""Qdrant on a server: a collection that LangChain or LlamaIndex fills.

A collection has one size of vectors for ever and cannot be given another name, so the new vectors get a collection of
their own, and what programs ask for becomes an alias of it. Every step is marked by an alias, because several of them
change at once:

    notes.mlxi-RUN              the new collection, with all settings of the old one
    notes.mlxi-RUN.built        an alias of it: it is whole, and not in use
    notes.mlxi-RUN.kept         an alias of the old collection, while the new one is in use
    notes.mlxi-RUN.old          a copy of the old collection, see below
    notes.mlxi-RUN.original     an alias of the old collection while it is about to be deleted

If `notes` is an alias already, publishing and rolling back are one request each, and nobody finds nothing. What was
written to the old collection in that moment is still there, and is seen.

If `notes` is the collection itself, no alias can have that name as long as it exists. So it is copied with its vectors
while the new one is built, the copy is compared, and publishing deletes the original and makes the alias: two requests,
one after the other, between which there is no `notes`. If that is cut off, publishing again makes the alias, and so
does rolling back; until then it is the copy that is read. The old vectors exist at any moment, under one name or the
other. Rolling back makes `notes` an alias of the copy by one request, and an alias it stays.

While there is no `notes`, a program that makes the collections it does not find can make one. That must not be taken
for the original, as the copy is then all there is: an alias goes with the collection it stands for, so the original has
one for as long as it exists.

No server refuses what is written to one collection for a while. `/locks`, until 1.15, was for a whole node, and let
updates pass; strict mode, from 1.13, is part of a collection and stays when we are killed. So what is written while the
copy is compared is looked for once more, by counting, directly before the original is deleted.
"""

import os
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any, Final
from urllib.parse import unquote, urlsplit, urlunsplit

from mlx_integrations.adapters.store_records.qdrant import with_record
from mlx_integrations.errors import StoreChangedError, StoreError
from mlx_integrations.migration.protocol import Embedded, Published, Run
from mlx_integrations.migration.records import Row, StoreLocation
from mlx_integrations.migration.stores.qdrant.collection_reader import (
    INDEX,
    CollectionReader,
    LentCollection,
    metadata_of,
    resized,
)
from mlx_integrations.migration.stores.qdrant.layout import (
    Layout,
    Names,
    chosen_name,
    index_of,
    kept_of,
    others_of,
    own_id,
    split_name,
)
from mlx_integrations.migration.stores.qdrant.point import Point
from mlx_integrations.migration.stores.qdrant.server import QdrantServer

__all__ = ["KIND", "QdrantServerStore", "address_and_key"]

KIND: Final = "qdrant-server"


class QdrantServerStore(CollectionReader):
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
        return index_of(INDEX, wanted, str(self.location))

    def build(self, run: Run, rows: Iterator[Embedded]) -> None:
        """Fill a collection of its own with the new vectors and everything else of the old one."""
        self.index_for(run.fingerprint.dimensions, run.index)
        server, names, aliases = self._server, self._names(run), self._server.aliases()
        self._check_original(names, aliases)
        name = self._shown_as()
        known, layout = server.info(name), self._layout(name)
        if str(getattr(known.config.params.sharding_method, "value", "auto")) == "custom":
            raise StoreError(f"`{self.location}` has shards of its owner's own making.", store=str(self.location))
        marks = self._marks(names, aliases)
        in_use = {collection for alias, collection in aliases.items() if alias not in marks}
        server.change_aliases({}, marks)
        for each in {names.new, names.copy} - in_use:
            server.delete(each)
        metadata = with_record(metadata_of(known), run.fingerprint)
        server.create_like(names.new, known, resized(known, layout.vector, run.fingerprint.dimensions), metadata)
        new = (
            _point(layout, row, vector)
            for each in rows
            for row, vector in zip(each.rows, each.vectors.tolist(), strict=True)
        )
        rest = server.points(name, vectors=True, lacking=layout.vector)
        server.write(names.new, chain(new, rest))
        if self._name not in aliases:
            self._copy(names, known)
        server.wait_until_indexed(names.new)
        server.change_aliases({names.built: names.new})

    def _copy(self, names: Names, known: Any) -> None:
        """Copy the collection, which cannot be given another name, with its vectors."""
        server = self._server
        server.create_like(names.copy, known, known.config.params.vectors, metadata_of(known))
        server.write(names.copy, server.points(self._name, vectors=True))
        if server.digest(names.copy, True) != server.digest(self._name, True):
            raise self._changed()
        server.wait_until_indexed(names.copy)

    def built(self, run: Run) -> CollectionReader:
        """The new collection."""
        names, aliases = self._names(run), self._server.aliases()
        if names.new not in (aliases.get(names.built), aliases.get(self._name)):
            raise self._not_built()
        return self._lent(names.new)

    def replaced(self, run: Run) -> CollectionReader:
        """The old collection, or its copy."""
        names, aliases = self._names(run), self._server.aliases()
        if aliases.get(self._name) == names.new or names.kept in aliases:
            if names.kept not in aliases:
                raise self._no_longer_there()
            return self._lent(aliases[names.kept])
        if names.built not in aliases:
            raise self._not_built()
        return self._lent(aliases.get(self._name, self._name))

    def kept_state(self, run: Run) -> str | None:
        """What `state` would say of the old collection, or of its copy; `None` if other aliases keep it anyway."""
        names, aliases = self._names(run), self._server.aliases()
        old = aliases.get(names.kept)
        if old is None or any(alias != names.kept and other == old for alias, other in aliases.items()):
            return None
        return self._state_of(old)

    def published(self, run: Run) -> Published:
        """Which vectors are in use, by what the name stands for."""
        names, aliases = self._names(run), self._server.aliases()
        if aliases.get(self._name) == names.new:
            return "between" if names.built in aliases else "new"
        is_there = self._name in aliases or self._name in self._server.collections()
        return "old" if is_there and not self._was_made_anew(names, aliases) else "between"

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
            self._make_room(names)
        elif names.kept not in aliases:
            raise self._no_longer_there()
        try:
            server.change_aliases({self._name: names.new}, [names.built])
        except StoreError:
            self._check_original(names, server.aliases())
            raise

    def _make_room(self, names: Names) -> None:
        """Delete the collection of the name, of which there is a copy."""
        server = self._server
        is_same = self._state_of(names.copy) == self.state()
        aliases = server.aliases()
        if not is_same:
            self._check_original(names, aliases)
            raise self._changed()
        others = [alias for alias, collection in aliases.items() if collection == self._name]
        if others := sorted({*others} - {names.original}):
            raise StoreError(
                f"The collection `{self._name}` goes by the alias `{others[0]}` since a short while.",
                store=str(self.location),
                hint="Delete that alias, or roll back and migrate the collection by it.",
            )
        server.change_aliases({names.kept: names.copy, names.original: self._name})
        if server.count(names.copy) != server.count(self._name):
            server.change_aliases({}, [names.kept, names.original])
            raise self._changed()
        server.delete(self._name)

    def _was_made_anew(self, names: Names, aliases: Mapping[str, str]) -> bool:
        """Whether the original was deleted, and a program has made a collection of its name before it was an alias."""
        is_cut_off = names.built in aliases and aliases.get(names.kept) == names.copy and self._name not in aliases
        return is_cut_off and names.original not in aliases and self._name in self._server.collections()

    def _check_original(self, names: Names, aliases: Mapping[str, str]) -> None:
        if self._was_made_anew(names, aliases):
            raise StoreError(
                f"A program has made `{self._name}` anew while publishing was cut off; what was in it is in "
                f"`{names.copy}`, and with new vectors in `{names.new}`.",
                store=str(self.location),
                hint=f"Stop that program, delete the collection `{self._name}` that it made, and run this again. Then "
                "add once more what it had added.",
            )

    def rollback(self, run: Run) -> None:
        """Let the name stand for the old collection again, or for its copy."""
        server, names, aliases = self._server, self._names(run), self._server.aliases()
        self._check_original(names, aliases)
        is_there = self._name in server.collections()
        if not is_there and aliases.get(self._name) in (names.new, None):
            if names.kept not in aliases:
                raise self._no_longer_there()
            server.change_aliases({names.built: names.new, self._name: aliases[names.kept]}, [names.kept])
        elif names.built not in aliases:
            raise self._no_longer_there()
        else:
            server.change_aliases({}, {names.kept, names.original} & aliases.keys())

    def discard(self, run: Run) -> None:
        """Delete the collections that are not in use. One that has another alias stays, as nothing was said of that."""
        if self.published(run) == "between":
            self.rollback(run)
        server, names, aliases = self._server, self._names(run), self._server.aliases()
        marks = self._marks(names, aliases)
        in_use = {collection for alias, collection in aliases.items() if alias not in marks}
        old = {aliases[names.kept]} if names.kept in aliases else set()
        for collection in sorted({names.new, names.copy, *old} - in_use - {self._name}):
            server.delete(collection)
        server.change_aliases({}, marks & server.aliases().keys())

    def _shown_as(self) -> str:
        """The name, or what is kept of it where publishing was cut off and there is nothing of that name."""
        aliases = self._server.aliases()
        kept = kept_of(self._name, aliases)
        is_there = kept is None or self._name in aliases or self._name in self._server.collections()
        return self._name if is_there else str(kept)

    def _lent(self, name: str) -> CollectionReader:
        """A collection that belongs to a run; it has the connection for itself, as it is closed by whoever asks."""
        return LentCollection(self.location, self._server, name, self._vector, self._content_key)

    def _names(self, run: Run) -> Names:
        return Names(self._name, run.id)

    def _marks(self, names: Names, aliases: Mapping[str, str]) -> set[str]:
        return {names.built, names.kept, names.original} & aliases.keys()

    def _not_built(self) -> StoreError:
        return StoreError(f"Nothing was built for `{self.location}`.", store=str(self.location))

    def _no_longer_there(self) -> StoreError:
        message = f"The old vectors of `{self.location}` are no longer there."
        hint = (
            "They were deleted, or another migration has replaced what this one had put in use: roll that back first."
        )
        return StoreError(message, store=str(self.location), hint=hint)

    def _changed(self) -> StoreChangedError:
        return StoreChangedError(f"`{self.location}` was changed while it was copied.", store=str(self.location))


def address_and_key(
    url: str, api_key: str | None = None, environ: Mapping[str, str] = os.environ
) -> tuple[str, str | None]:
    """The address of a server without the key in it, and the key that is to be used.

    Raises:
        StoreError: It is no address, or a key cannot be told from it, or cannot be sent.
    """
    address, known = _without_key(url)
    key = (api_key or known or environ.get("QDRANT_API_KEY") or "").strip()  # files of keys end with a line
    if not (key.isascii() and key.isprintable()):
        raise StoreError(
            f"The key of `{address}` has characters that no key has.",
            store=address,
            hint="Set QDRANT_API_KEY to the key alone, without quotation marks or a second line.",
        )
    return address, key or None


def _without_key(url: str) -> tuple[str, str | None]:
    """An address without the key in it, and the key."""
    try:
        parts = urlsplit(url)
        place = parts.netloc.rpartition("@")[2]
        key = parts.password or parts.username
    except ValueError as error:
        message = "The address is no URL of a server."
        raise StoreError(message, store="qdrant", hint="Write it as `http://HOST:6333`.") from error
    if "@" in f"{parts.path}{parts.query}{parts.fragment}":
        raise StoreError(
            "The key in the address has a character that ends it.",
            store="qdrant",
            hint="Set QDRANT_API_KEY to it instead, or write its `/`, `?` and `#` as `%2F`, `%3F` and `%23`.",
        )
    return urlunsplit((parts.scheme, place, parts.path.rstrip("/"), "", "")), unquote(key) if key else None


def _point(layout: Layout, row: Row, vector: list[float]) -> Point:
    payload = layout.payload(row) if row.carried is None else row.carried
    return Point(id=own_id(row.id), payload=payload, vectors={**others_of(row), layout.vector: vector})
