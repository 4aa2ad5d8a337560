"""What passes between a store, the engine and the reports."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from mlx_integrations.errors import StoreError
from mlx_integrations.fingerprint import EmbeddingFingerprint

__all__ = [
    "DIGEST_BYTES",
    "Document",
    "Finding",
    "Framework",
    "Held",
    "Loss",
    "Metric",
    "Row",
    "StoreInfo",
    "StoreLocation",
    "TextOf",
    "as_document",
    "content_digest",
    "text_digest",
]

Metric = Literal["cosine", "dot", "euclidean", "manhattan", "unknown"]
"""How a store compares vectors."""

Framework = Literal["langchain", "llama-index"]
"""Whose documents a store holds."""

DIGEST_BYTES: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreLocation:
    """Where a store is: what a person would type to name it.

    Attributes:
        kind: Which adapter reads it, such as `langchain-faiss`.
        address: A folder, a file, or a URL without its password.
        name: The collection, table or index in it, where there can be several.
        target: The store that is made of its texts, where they are moved to another one.
    """

    kind: str
    address: str
    name: str | None = None
    target: "StoreLocation | None" = None

    @property
    def is_remote(self) -> bool:
        """Whether it is on a server, and has no place on this disk."""
        return "://" in self.address

    @property
    def path(self) -> Path:
        """The address as a path, for stores that are files."""
        return Path(self.address)

    def __str__(self) -> str:
        """Such as `storage` or `chroma_db, collection notes`."""
        own = self.address if self.name is None else f"{self.address}, collection {self.name}"
        return own if self.target is None else f"{own} to {self.target}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something about a store that its owner should know.

    Attributes:
        code: For programs: `orphans`, `duplicate-ids`, `mixed-dimensions`, `missing-texts`, ...
        message: For people.
        count: How many rows it concerns.
        examples: A few of their ids.
        is_blocking: Whether nothing can be migrated before it is repaired or accepted.
        is_final: Whether accepting it is of no use: the store cannot be given new vectors as it is.
    """

    code: str
    message: str
    count: int = 0
    examples: tuple[str, ...] = ()
    is_blocking: bool = False
    is_final: bool = False

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Finding":
        """The finding that `dataclasses.asdict` and JSON made values of."""
        return cls(**{**values, "examples": tuple(values["examples"])})

    @property
    def told(self) -> str:
        """What was found, how often, and where, for people."""
        examples = f", such as {', '.join(self.examples)}" if self.examples else ""
        return f"{self.message} ({self.count:,}{examples})"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreInfo:
    """What a store says of itself, read without its vectors.

    Attributes:
        location: Where it is.
        count: Rows that have a vector.
        dimensions: Of its vectors, each kind that occurs; empty for an empty store.
        metric: How it compares them.
        index: The kind of its index, in the store's own words, such as `IVF16,Flat`.
        fingerprint: The record of the model that made the vectors, if one lies beside the store.
        likely_model: A guess from dimensions and metadata, where there is no record.
        bytes: What it takes on disk, where it is files.
        is_exact: Whether vectors come out of its index as they went in, which those of a compressed one do not.
        findings: What is wrong with it.
        extra: Facts of this kind of store that its writer needs and reports show.
    """

    location: StoreLocation
    count: int
    dimensions: tuple[int, ...]
    metric: Metric
    index: str = ""
    fingerprint: EmbeddingFingerprint | None = None
    likely_model: str | None = None
    bytes: int | None = None
    is_exact: bool = True
    findings: tuple[Finding, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)


class TextOf(str):
    """Text in the place of a value of Python that is none, so that whoever writes it elsewhere can say so.

    Args:
        text: How it is written.
        was: What such values are, for people: `paths`.
    """

    __slots__ = ("was",)
    was: str

    def __new__(cls, text: str, was: str) -> "TextOf":  # noqa: D102 -- as the class says
        made = super().__new__(cls, text)
        made.was = was
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return TextOf, (str(self), self.was)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One vector's document.

    Attributes:
        key: Where it is in the order of `Store.rows`; the same for as long as the store is not changed. Reading goes on
            after a key, never after a count.
        id: The store's own id of it.
        text: Exactly what was embedded, which is not always what is stored; `None` if the store does not have it.
        metadata: Everything else that the store keeps with it, as plain values.
        refused: Why it is left out although it has a text, such as that the store it is moved to cannot hold it.
        carried: What the store that it is moved to needs beside that to write it, and does not show.
    """

    key: str
    id: str
    text: str | None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    refused: str = ""
    carried: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """What a framework reads out of a store, whatever the store: a document of LangChain, or a node of LlamaIndex.

    Attributes:
        key: As of the row.
        id: By which the framework knows it, which some stores do not show.
        text: Exactly what was embedded; `None` if the store does not have it.
        content: Its own text, which for a node is most often not what was embedded.
        metadata: Its metadata. For a node what `node_to_metadata_dict` of LlamaIndex writes, without its text: its
            metadata, and among them `_node_content`, the node itself.
        framework: Whose it is.
    """

    key: str
    id: str
    text: str | None
    content: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    framework: Framework = "langchain"


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """What a store cannot hold of a document.

    Attributes:
        key: Of its metadata.
        reason: What it is and what becomes of it, for people: such as `a date, left out`.
        is_blocking: Whether it has to be accepted before anything is moved.
    """

    key: str
    reason: str
    is_blocking: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A document, as a store will show it.

    Attributes:
        row: What reading the store will give, under the document's key.
        losses: What of it will not be there.
    """

    row: Row
    losses: tuple[Loss, ...] = ()


def as_document(row: Row) -> Document:
    """A row of a store whose rows are documents of LangChain as they are."""
    return Document(key=row.key, id=row.id, text=row.text, content=row.text or "", metadata=row.metadata)


def text_digest(text: str) -> bytes:
    """16 bytes that are equal for equal texts."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=DIGEST_BYTES).digest()


def content_digest(row: Row) -> bytes:
    """16 bytes that are equal for rows of equal id, text and metadata, whatever the order of the metadata.

    Raises:
        StoreError: The metadata have themselves in them, or are nested without end.
    """
    try:
        canonical = _canonical([row.id, row.text, row.metadata])
    except RecursionError as error:
        raise StoreError(
            f"The metadata of `{row.id}` cannot be compared: they refer to themselves, or are nested too deeply.",
            store="",
            hint="Give that document other metadata, and migrate again.",
        ) from error
    return hashlib.blake2b(canonical.encode("utf-8", "surrogatepass"), digest_size=DIGEST_BYTES).digest()


def _canonical(content: list[Any]) -> str:
    try:
        return _encode(content)
    except TypeError:  # keys that are no strings, or of kinds that have no order among each other
        return _encode(_ordered(content))


def _ordered(value: Any) -> Any:
    """A value that JSON can hold: mappings as sorted pairs, sets as sorted lists."""
    if isinstance(value, Mapping):
        pairs = [[repr(key), _ordered(content)] for key, content in value.items()]
        return {"pairs": sorted(pairs, key=lambda pair: str(pair[0]))}
    if isinstance(value, list | tuple):
        return [_ordered(each) for each in value]
    if isinstance(value, set | frozenset):
        return {"set": sorted((_ordered(each) for each in value), key=repr)}
    return value if value is None or isinstance(value, str | int | float | bool) else repr(value)


def _encoder() -> Callable[[Any], str]:
    """Writes JSON with sorted keys; made once, because making one takes as long as encoding a row."""
    encoder = json.JSONEncoder(
        sort_keys=True,
        separators=(",", ":"),
        # Sets have another order in each process.
        default=lambda value: _ordered(value) if isinstance(value, Mapping | set | frozenset) else repr(value),
    )
    make: Any = getattr(json.encoder, "c_make_encoder", None)
    if make is None:  # an interpreter without it
        return encoder.encode
    write = make(None, encoder.default, json.encoder.encode_basestring_ascii, None, ":", ",", True, False, True)
    return lambda value: "".join(write(value, 0))


_encode: Final = _encoder()
