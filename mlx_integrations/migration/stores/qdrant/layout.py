"""What is the same for a Qdrant in a folder and one on a server: names, and how programs fill its points.

    LangChain     {"page_content": "...", "metadata": {...}}, under these keys or others
    LlamaIndex    {"_node_content": "{...}", ...}: a node, with its text

A point can have several vectors. One of them is embedded anew; the others, such as the sparse ones of a hybrid search,
are part of a row's metadata, so that they are written again and compared like these.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from mlx_integrations.adapters.store_records.qdrant import collection_name, record_in
from mlx_integrations.errors import SidecarError, StoreError
from mlx_integrations.fingerprint import EmbeddingFingerprint
from mlx_integrations.migration.records import Document, Metric, Row, as_document
from mlx_integrations.migration.stores.llama_index_nodes import node_with_text, text_of_flat_node

__all__ = [
    "CONTENT",
    "DETECTED_POINTS",
    "FORMER_ID",
    "METADATA",
    "METRICS",
    "OTHER_VECTORS",
    "UNNAMED",
    "Layout",
    "Names",
    "chosen_name",
    "chosen_vector",
    "content_key_of",
    "index_of",
    "kept_of",
    "models_of",
    "others_of",
    "own_id",
    "record_of",
    "shown_names",
    "split_name",
]

UNNAMED: Final = ""
"""The name of the vector of a collection that names none."""
OTHER_VECTORS: Final = "qdrant:vectors"
"""Among the metadata of a row, the vectors of its point that are not embedded anew, by name."""
CONTENT: Final = "page_content"
"""The key of texts in payloads of LangChain."""
METADATA: Final = "metadata"
"""The key of metadata in payloads of LangChain."""
FORMER_ID: Final = "mlxi:id"
"""Beside the metadata of a document that was moved here, the id that it had, where that is none of Qdrant's."""
METRICS: Final[Mapping[str, Metric]] = {
    "Cosine": "cosine",
    "Dot": "dot",
    "Euclid": "euclidean",
    "Manhattan": "manhattan",
}
"""How Qdrant calls what it compares by."""
DETECTED_POINTS: Final = 20
"""Points whose payloads tell under which key their texts are."""

_NODE: Final = "_node_content"
_OF_A_RUN: Final = ".mlxi-"
_KEPT: Final = ".kept"
_IS_OF_A_RUN: Final = re.compile(r"\.mlxi-[0-9a-z]{12}(\.[a-z]+)?$").search
_NAMED_AFTER: Final = "fast-"
_LONGEST_BYTES: Final = 220  # of 255 that a name can have, with what a run adds to it
_NUMBERS: Final = range(2**64)
_LONGEST_NUMBER: Final = 20  # digits
_VECTOR_MARK: Final = ":"  # no name of a collection may have it


@dataclass(frozen=True, slots=True)
class Names:
    """What a run calls the collections that it makes.

    Attributes:
        name: The one that a person named: a collection, or an alias of one.
        run_id: Of the run.
    """

    name: str
    run_id: str

    @property
    def new(self) -> str:
        """The collection of the new vectors, for ever: no collection can be given another name."""
        return f"{_shortened(self.name)}{_OF_A_RUN}{self.run_id}"

    @property
    def copy(self) -> str:
        """A copy of the old collection, where it has to make room for an alias of its name."""
        return f"{self.new}.old"

    @property
    def built(self) -> str:
        """An alias of the new collection that says that it is whole, and not in use."""
        return f"{self.new}.built"

    @property
    def kept(self) -> str:
        """An alias of the collection with the old vectors, while the new ones are in use."""
        return f"{self.new}{_KEPT}"

    @property
    def original(self) -> str:
        """An alias of the collection that has to make room: it goes with it, so that another one is told from it."""
        return f"{self.new}.original"


@dataclass(frozen=True, slots=True)
class Layout:
    """How a collection is filled.

    Attributes:
        vector: The name of the vector that is embedded anew.
        content_key: The key of the texts in payloads; a node of LlamaIndex has its own.
    """

    vector: str
    content_key: str

    def row(self, key: str, point_id: int | str, payload: Mapping[str, Any], others: Mapping[str, Any]) -> Row:
        """A point as a row.

        Args:
            key: Of the row.
            point_id: Of the point.
            payload: Of the point.
            others: Its vectors that are not embedded anew, as plain values.
        """
        added = {OTHER_VECTORS: dict(others)} if others else {}
        if OTHER_VECTORS in payload:
            reason = f"its payload has `{OTHER_VECTORS}`, which means something else here"
            return Row(key=key, id=str(point_id), text=None, metadata=payload, refused=reason)
        if _NODE in payload:
            text = text_of_flat_node(payload, None)
            return Row(key=key, id=str(point_id), text=text, metadata={**payload, **added})
        content = payload.get(self.content_key)
        kept = {name: value for name, value in payload.items() if name != self.content_key}
        text = str(content) if isinstance(content, str) else None
        return Row(key=key, id=str(point_id), text=text, metadata={**kept, **added})

    def document(self, row: Row) -> Document:
        """A row in the words of the framework that fills the collection.

        What is beside the metadata of LangChain is no part of its documents; it becomes metadata, so as not to be lost.
        """
        if _NODE in row.metadata:
            return node_with_text(row)
        payload = dict(row.metadata)
        own_id = payload.pop(FORMER_ID, row.id)
        known = payload.pop(METADATA, None)
        metadata = dict(known) if isinstance(known, Mapping) else ({} if known is None else {METADATA: known})
        for name, value in payload.items():
            metadata[name if name not in metadata else f"qdrant:{name}"] = value
        return replace(as_document(row), id=str(own_id), metadata=metadata)

    def payload(self, row: Row) -> dict[str, Any]:
        """The payload that a row came from."""
        payload = {name: value for name, value in row.metadata.items() if name != OTHER_VECTORS}
        return payload if _NODE in payload else {self.content_key: row.text, **payload}


def others_of(row: Row) -> Mapping[str, Any]:
    """The vectors of a row's point that are not embedded anew."""
    found: Mapping[str, Any] = row.metadata.get(OTHER_VECTORS, {})
    return found


def own_id(text: str) -> int | str:
    """An id as Qdrant has it: a number where it is written as one, otherwise the text, mostly of a UUID."""
    is_number = text.isascii() and text.isdecimal() and len(text) <= _LONGEST_NUMBER
    return int(text) if is_number and text == str(int(text)) and int(text) in _NUMBERS else text


def record_of(metadata: Mapping[str, Any], name: str) -> EmbeddingFingerprint | None:
    """The record in a collection's metadata, if there is one that can be read."""
    try:
        return record_in(metadata, collection_name(name))
    except SidecarError:
        return None


def kept_of(name: str, aliases: Iterable[str]) -> str | None:
    """What stands for the old collection of a name while there is none of that name, if a run was cut off."""
    kept = [each for each in aliases if each.startswith(f"{_shortened(name)}{_OF_A_RUN}") and each.endswith(_KEPT)]
    return kept[0] if len(kept) == 1 else None


def _shortened(name: str) -> str:
    """A name that leaves room for what a run adds to it."""
    return name.encode()[:_LONGEST_BYTES].decode(errors="ignore")


def shown_names(collections: Iterable[str], aliases: Mapping[str, str]) -> list[str]:
    """The names by which programs know collections: aliases, and of the rest the collections themselves."""
    own = {alias: target for alias, target in aliases.items() if not _IS_OF_A_RUN(alias)}
    kept = (alias for alias in aliases if alias.endswith(_KEPT) and _IS_OF_A_RUN(alias))
    between = {alias.rpartition(_OF_A_RUN)[0] for alias in kept}  # if a run was cut off
    return sorted({*own, *between, *(name for name in set(collections) - {*own.values()} if not _IS_OF_A_RUN(name))})


def chosen_name(wanted: str | None, collections: Iterable[str], aliases: Mapping[str, str], store: str) -> str:
    """The name that is migrated: that of a collection, or better an alias of one.

    Args:
        wanted: What a person named.
        collections: All of them.
        aliases: All of them, with the collections that they stand for.
        store: For messages.

    Raises:
        StoreError: There is none of that name, none is named and there are several, or one is named by a name under
            which its users do not know it.
    """
    known = set(collections)
    shown = shown_names(known, aliases)
    if wanted is None:
        if len(shown) != 1:
            hint = f"Say which: {', '.join(shown)}." if shown else "There is nothing to migrate."
            raise StoreError(f"`{store}` has {len(shown)} collections.", store=store, hint=hint)
        return shown[0]
    if wanted in known and (others := sorted(alias for alias in shown if aliases.get(alias) == wanted)):
        raise StoreError(
            f"The collection `{wanted}` of `{store}` goes by the alias `{others[0]}`.",
            store=store,
            hint=f"Migrate it by that name, `--name {others[0]}`: an alias is switched over at once.",
        )
    if wanted not in known and wanted not in shown:
        names = ", ".join(f"`{name}`" for name in shown) or "none"
        raise StoreError(f"`{store}` has no collection `{wanted}`.", store=store, hint=f"It has {names}.")
    return wanted


def split_name(name: str | None) -> tuple[str | None, str | None]:
    """Collection and vector of `notes:title`; each is `None` where it is not named."""
    if name is None:
        return None, None
    collection, mark, vector = name.partition(_VECTOR_MARK)
    return collection or None, vector if mark else None


def chosen_vector(wanted: str | None, dense: Mapping[str, bool], store: str) -> str:
    """The name of the vector that is embedded anew.

    Args:
        wanted: What a person named.
        dense: The dense vectors of the collection, and whether each of them is several (a multivector).
        store: For messages.

    Raises:
        StoreError: There is none of that name, none is named and there are several, or it is one that no model for
            whole texts makes.
    """
    names = sorted(dense)
    told = ", ".join(f"`{name}`" for name in names)
    if wanted is None and len(names) == 1:
        wanted = names[0]
    if wanted is None:
        hint = f"Say which: `--name COLLECTION:VECTOR`, with one of {told}." if names else "There is nothing to embed."
        raise StoreError(f"`{store}` has {len(names)} dense vectors for each point.", store=store, hint=hint)
    if wanted not in dense:
        raise StoreError(f"`{store}` has no dense vector `{wanted}`.", store=store, hint=f"It has {told or 'none'}.")
    if dense[wanted]:
        raise StoreError(
            f"The vectors `{wanted}` of `{store}` are several for each text.",
            store=store,
            hint="Only vectors of which a text has one can be made anew.",
        )
    return wanted


def content_key_of(payloads: Sequence[Mapping[str, Any]], store: str) -> str:
    """The key under which payloads have their texts.

    Args:
        payloads: Of some points.
        store: For messages.

    Raises:
        StoreError: It could be one of several.
    """
    plain = [payload for payload in payloads if payload and _NODE not in payload]
    if not plain or any(CONTENT in payload for payload in plain):
        return CONTENT
    texts = set.intersection(*({name for name, value in each.items() if type(value) is str} for each in plain))
    if len(texts) == 1:
        return texts.pop()
    told = ", ".join(f"`{name}`" for name in sorted(texts)) or "none is a text in all of them"
    raise StoreError(
        f"The payloads of `{store}` have no `{CONTENT}`, and it is not clear where their texts are ({told}).",
        store=store,
        hint="Say so from Python: `content_key` of the store is the `content_payload_key` that LangChain was given.",
    )


def models_of(vector: str) -> list[str]:
    """The model that a vector is named after, as Qdrant's own client does it: `fast-bge-small-en`.

    https://github.com/qdrant/qdrant-client/blob/master/qdrant_client/qdrant_fastembed.py
    """
    return [vector.removeprefix(_NAMED_AFTER)] if vector.startswith(_NAMED_AFTER) else []


def index_of(known: str, wanted: str, store: str) -> str:
    """The kind of index of a collection.

    Raises:
        StoreError: Another one is wanted.
    """
    if wanted in ("", known):
        return known
    raise StoreError(
        f"`{store}` cannot have the index `{wanted}`.", store=store, hint=f"It has `{known}`: leave `--index` out."
    )
