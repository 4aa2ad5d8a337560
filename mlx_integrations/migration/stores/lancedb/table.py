"""A table of LanceDB for reading: which columns hold what, and its rows in the order of their row ids.

A handle stays at the version that it was opened at, so whatever is read through one is of one state. Rows are asked for
by row id, some hundred at a time; the ids of all of them are kept, in 8 bytes each.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mlx_integrations.errors import MissingExtraError, MLXIntegrationsError, StoreError
from mlx_integrations.migration.stores.lancedb.folders import is_of_first_format
from mlx_integrations.migration.stores.lancedb.values import values_of
from mlx_integrations.migration.stores.llama_index_nodes import text_of_flat_node

if TYPE_CHECKING:  # a type only: importing this module stays fast
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "EMBEDDING_FUNCTIONS",
    "READ_ROWS",
    "Columns",
    "Content",
    "LanceTable",
    "columns_of",
    "connected",
    "embedding_functions",
    "model_of",
    "told",
]

EMBEDDING_FUNCTIONS: Final = b"embedding_functions"
"""In the metadata of a schema: the models by which LanceDB itself makes vectors."""
READ_ROWS: Final = 1024
"""Rows that are asked for at once."""
_NODE: Final = "_node_content"  # where LlamaIndex keeps a node
_METADATA: Final = "metadata"
_ROW_ID: Final = "_rowid"
_LONGEST_ID: Final = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """What the columns of a table hold.

    Attributes:
        vector: The vectors.
        text: What was embedded, or with `is_node` the text of the node that was.
        id: What the owner calls a row; `None` if no column says.
        metadata: A struct of everything else, as LangChain and LlamaIndex have it.
        is_node: Whether LlamaIndex filled the table.
    """

    vector: str
    text: str
    id: str | None
    metadata: str | None
    is_node: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """A row of a table, without its vector.

    Attributes:
        number: Its row id.
        id: What its owner calls it; where no column says, the beginning of everything that the row has.
        text: What was embedded.
        own_text: The text in the table.
        values: Everything else.
        node: What LlamaIndex wrote of its node, if it did.
    """

    number: int
    id: str
    text: str | None
    own_text: str | None
    values: Mapping[str, Any]
    node: Mapping[str, Any] | None


@contextmanager
def told(store: str, hint: str | None = None) -> Iterator[None]:
    """Say what LanceDB could not do as an error of the store.

    Args:
        store: For the message.
        hint: What to do about it.

    Raises:
        StoreError: With the first line of LanceDB's own message.
    """
    try:
        yield
    except MLXIntegrationsError:
        raise
    except (OSError, RuntimeError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].partition(", /")[0].rstrip(".")
        raise StoreError(f"LanceDB fails at `{store}`: {reason}.", store=store, hint=hint) from error


def connected(folder: Path) -> Any:
    """A connection to the database in a folder.

    Raises:
        MissingExtraError: `lancedb` is not installed.
    """
    try:
        import lancedb
    except ImportError as error:
        raise MissingExtraError("The tables of LanceDB need `lancedb`.", extra="lancedb") from error
    return lancedb.connect(str(folder))


def filled(folder: Path, name: str, schema: Any, batches: Iterator[Any], store: str, **options: Any) -> Any:
    """Make a table of record batches, in one commit after its schema's; returns it.

    Args:
        folder: Of the database.
        name: The table.
        schema: Of the batches, as Arrow has it.
        batches: What goes into it.
        store: For messages.
        options: `hint` of `told`, and what LanceDB's `create_table` takes besides.

    Raises:
        StoreError: LanceDB could not.
    """
    import pyarrow as pa

    failures: list[BaseException] = []

    def watched() -> Iterator[Any]:
        try:
            yield from batches
        except BaseException as error:  # Arrow would make a `RuntimeError` of it
            failures.append(error)
            raise

    try:
        with told(store, options.pop("hint", None)):
            made = connected(folder).create_table(name, schema=schema, **options)
            made.add(pa.RecordBatchReader.from_batches(schema, watched()), write_parallelism=1)
    except StoreError:
        if failures:
            raise failures[0] from None
        raise
    return made


def columns_of(schema: Any, store: str, *, vector: str = "", text: str = "") -> Columns:
    """Find out what the columns of a table hold.

    Args:
        schema: Of Arrow.
        store: For messages.
        vector: The column of the vectors, where it is not to be guessed.
        text: The column of the texts, likewise.

    Raises:
        StoreError: There is no such column, or several could be meant.
    """
    import pyarrow as pa

    vectors = [field.name for field in schema if _is_vector(field.type)]
    loose = [
        field.name for field in schema if pa.types.is_list(field.type) and pa.types.is_floating(field.type.value_type)
    ]
    if not vectors and loose:
        raise StoreError(
            f"`{store}` keeps lists of any length in `{loose[0]}`, which LanceDB does not take for vectors.",
            store=store,
            hint="Make the table anew with lists of one size in it: `pyarrow.list_(pyarrow.float32(), DIMENSIONS)`.",
        )
    texts = [field.name for field in schema if _is_text(field.type)]
    metadata = _METADATA if _METADATA in schema.names and pa.types.is_struct(schema.field(_METADATA).type) else None
    is_node = metadata is not None and schema.field(metadata).type.get_field_index(_NODE) >= 0
    own_vector = _chosen("vectors", vector, vectors, ("vector",), store)
    own_text = _chosen("texts", text, texts, _likely_texts(schema, own_vector, texts, is_node=is_node), store)
    others = [name for name in schema.names if name not in (own_vector, own_text, metadata)]
    # LangChain lets its users choose what the column is called, and writes it before the others.
    own_id = next((name for name in ("id", *(others[:1] if metadata else ())) if name in others), None)
    if own_id is not None and not _is_id(schema.field(own_id).type):
        own_id = None
    return Columns(vector=own_vector, text=own_text, id=own_id, metadata=metadata, is_node=is_node)


def _chosen(what: str, given: str, found: Sequence[str], likely: Sequence[str], store: str) -> str:
    if given:
        likely = (given,)
    elif len(found) == 1:
        return found[0]
    name = next((each for each in likely if each in found), None)
    if name is not None:
        return name
    listed = ", ".join(f"`{each}`" for each in found)
    if given or not found:
        raise StoreError(
            f"`{store}` has no column of {what}" + (f" that is called `{given}`." if given else "."),
            store=store,
            hint=f"It has {listed}." if found else None,
        )
    raise StoreError(
        f"`{store}` has several columns that could hold {what}.",
        store=store,
        hint=f"Say which, as `--name TABLE:VECTORS:TEXTS`: {listed}.",
    )


def _likely_texts(schema: Any, vector: str, texts: Sequence[str], *, is_node: bool) -> list[str]:
    """Columns of texts that others have said to be embedded, the likeliest first."""
    found = [each["source_column"] for each in embedding_functions(schema) if each.get("vector_column") == vector]
    names = schema.names
    at = names.index(vector)
    if is_node:  # LlamaIndex writes id, doc_id, vector, text, metadata
        found += names[at + 1 : at + 2]
    elif names[3:] == [_METADATA] and at == 0:  # LangChain writes vector, id, text, metadata
        found += names[2:3]
    return [*found, "text", *(texts if len([each for each in texts if each != "id"]) == 1 else ())]


def embedding_functions(schema: Any) -> list[dict[str, Any]]:
    """The models by which LanceDB makes vectors for a table of this schema."""
    try:
        found = json.loads((schema.metadata or {}).get(EMBEDDING_FUNCTIONS, b"[]"))
    except ValueError:
        return []
    return [each for each in found if isinstance(each, dict) and "source_column" in each]


def model_of(function: Mapping[str, Any]) -> str:
    """The name of a model of the schema's metadata."""
    model = function.get("model")
    return str((model.get("name") if isinstance(model, dict) else None) or function.get("name"))


def _is_vector(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_fixed_size_list(kind) and pa.types.is_floating(kind.value_type))


def _is_blob(field: Any) -> bool:
    """Whether rows have only the place of what the column holds: https://lancedb.github.io/lance/blob.html."""
    name = str(getattr(field.type, "extension_name", ""))
    return name.startswith("lance.blob") or b"lance-encoding:blob" in (field.metadata or {})


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_id(kind: Any) -> bool:
    import pyarrow as pa

    return _is_text(kind) or bool(pa.types.is_integer(kind))


class LanceTable:
    """One version of a table.

    Args:
        folder: The database.
        name: The table.
        vector: The column of the vectors, where it is not to be guessed.
        text: The column of the texts, likewise.

    Raises:
        StoreError: It cannot be opened, or its columns are not known.
    """

    def __init__(self, folder: Path, name: str, *, vector: str = "", text: str = "") -> None:
        self.store = str(folder / f"{name}.lance")
        with told(self.store):
            self.handle: Any = connected(folder).open_table(name)
            self.schema: Any = self.handle.schema
        if blobs := [field.name for field in self.schema if _is_blob(field)]:
            raise StoreError(
                f"`{self.store}` keeps blobs in `{blobs[0]}`, which LanceDB does not read with the rest of a row.",
                store=self.store,
                hint="Keep them in another table, or in a plain column of `large_binary`, and migrate then.",
            )
        self.columns = columns_of(self.schema, self.store, vector=vector, text=text)
        self._with_vectors: NDArray[np.uint64] | None = None

    @property
    def dimensions(self) -> int:
        """Coordinates of its vectors."""
        return int(self.field.type.list_size)

    @property
    def field(self) -> Any:
        """The column of its vectors, as Arrow describes it."""
        return self.schema.field(self.columns.vector)

    def makes_vectors(self, function: Mapping[str, Any]) -> bool:
        """Whether LanceDB makes the vectors with a model of the schema's metadata."""
        return bool(function.get("vector_column", "vector") == self.columns.vector)

    def all_row_ids(self) -> "NDArray[np.uint64]":
        """The ids of all rows, ascending."""
        import numpy as np

        with told(self.store):
            parts = [batch.column(_ROW_ID).to_numpy() for batch in self.handle.search().select([_ROW_ID]).to_batches()]
        return np.sort(np.concatenate([np.empty(0, np.uint64), *parts]))

    def row_ids(self) -> "NDArray[np.uint64]":
        """The ids of the rows that have a vector, ascending."""
        if self._with_vectors is None:
            found = self.all_row_ids()
            vector = self.columns.vector
            self._with_vectors = (
                self._where(found, vector, lambda column: column.is_valid()) if self.field.nullable else found
            )
        return self._with_vectors

    def row_ids_without_text(self) -> "NDArray[np.uint64]":
        """The ids of the rows that have a vector, and in their column of texts nothing, ascending."""
        import pyarrow as pa
        import pyarrow.compute as pc

        def is_blank(column: Any) -> Any:
            trimmed = pc.utf8_trim_whitespace(column.cast(pa.large_string()))
            return pc.fill_null(pc.equal(trimmed, ""), fill_value=True)

        return self._where(self.row_ids(), self.columns.text, is_blank)

    def _where(
        self, row_ids: "NDArray[np.uint64]", column: str, condition: Callable[[Any], Any]
    ) -> "NDArray[np.uint64]":
        """Those of some rows of which a condition holds.

        LanceDB can be asked for them in SQL, and then reads hundreds of megabytes ahead.
        """
        import numpy as np

        found = [np.empty(0, np.uint64)]
        for first in range(0, len(row_ids), READ_ROWS):
            some = row_ids[first : first + READ_ROWS]
            holds = condition(self.part(some.tolist(), [column]).column(column).combine_chunks())
            found.append(some[holds.to_numpy(zero_copy_only=False)])
        return np.concatenate(found)

    def part(self, row_ids: Sequence[int], columns: Sequence[str]) -> Any:
        """Some rows as a table of Arrow, in the order of their ids, which are its last column."""
        import pyarrow as pa

        if not row_ids:
            return pa.table({name: pa.array([], self.schema.field(name).type) for name in columns})
        try:
            with told(self.store):
                query = self.handle.take_row_ids(sorted(row_ids)).select(list(columns)).with_row_id()
                return query.to_arrow()
        except StoreError:
            if not is_of_first_format(Path(self.store)):
                raise
        raise StoreError(
            f"`{self.store}` has files of Lance's first format, of which LanceDB cannot read single rows.",
            store=self.store,
            hint="Write it to a table of another name, `db.create_table(NEW, table.to_arrow())`, and migrate that one.",
        )

    def vectors(self, row_ids: Sequence[int]) -> "NDArray[np.float32]":
        """The vectors of rows, (rows, dimensions).

        Raises:
            StoreError: There is no such row, or it has no vector.
        """
        import numpy as np

        if not row_ids:
            return np.empty((0, self.dimensions), np.float32)
        part = self.part(sorted(set(row_ids)), [self.columns.vector])
        column = part.column(self.columns.vector).combine_chunks()
        places = {each: place for place, each in enumerate(part.column(_ROW_ID).to_pylist())}
        valid = column.is_valid().to_numpy(zero_copy_only=False)
        for each in row_ids:
            if each not in places or not valid[places[each]]:
                raise StoreError(f"`{self.store}` has no vector of the row `{each}`.", store=self.store)
        # `values` would leave out nothing of a slice, `flatten` leaves out what is null: here nothing is.
        kept = column.filter(column.is_valid()).flatten().to_numpy(zero_copy_only=False)
        table = kept.reshape(-1, self.dimensions).astype(np.float32)
        at = np.cumsum(valid) - 1
        return np.ascontiguousarray(table[[at[places[each]] for each in row_ids]])

    def contents(self, row_ids: Sequence[int]) -> Iterator[Content]:
        """Some rows, in the order of their ids."""
        names = [name for name in self.schema.names if name != self.columns.vector]
        part = self.part(row_ids, names)
        numbers = part.column(_ROW_ID).to_pylist() if row_ids else []
        columns = [values_of(part.column(name)) for name in names]
        for number, *row in zip(numbers, *columns, strict=True):
            yield self._content(number, dict(zip(names, row, strict=True)))

    def _content(self, number: int, values: dict[str, Any]) -> Content:
        columns = self.columns
        text = own_text = values.pop(columns.text)
        own_id = None if columns.id is None else values.pop(columns.id)
        node = None
        inner = values.get(columns.metadata) if columns.metadata is not None else None
        if columns.metadata is not None and isinstance(inner, dict):
            del values[columns.metadata]
            if columns.is_node and inner.get(_NODE):
                node = {name: each for name, each in inner.items() if each is not None}
                text, values[columns.text] = text_of_flat_node(node, own_text or ""), own_text
            # Flat, as its owner has given it, unless that would hide something.
            is_flat = all(name not in values or values[name] == value for name, value in inner.items())
            values = {**values, **inner} if is_flat else {**values, columns.metadata: inner}
        shown = str(own_id) if own_id is not None else json.dumps(values, default=str, sort_keys=True)[:_LONGEST_ID]
        return Content(number=number, id=shown, text=text, own_text=own_text, values=values, node=node)
