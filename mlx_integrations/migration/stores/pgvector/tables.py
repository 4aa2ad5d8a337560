"""Tables with vectors, as LangChain and LlamaIndex make them: which there are, and what is in which column.

langchain_pg_embedding    of LangChain's `PGVector`: rows of every collection, which `langchain_pg_collection` lists
any name                  of LangChain's `PGVectorStore`: id, content, vector, JSON, and columns of their own
data_<name>               of LlamaIndex's `PGVectorStore`: id, text, metadata_, node_id, embedding
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import parse_qsl

from mlx_integrations.adapters.store_records.pgvector import literal, quoted
from mlx_integrations.errors import StoreError
from mlx_integrations.migration.records import Metric
from mlx_integrations.migration.stores.pgvector.server import Server

__all__ = [
    "COLLECTIONS",
    "OVER_VECTORS",
    "PREFIX",
    "Collection",
    "Table",
    "VectorIndex",
    "find_table",
    "own_table",
    "table_named",
    "vector_indexes",
]

PREFIX: Final = "mlxi_"
"""With what the names of a migration's own tables begin."""
COLLECTIONS: Final = "langchain_pg_collection"
OVER_VECTORS: Final = (
    "EXISTS (SELECT 1 FROM pg_attribute v WHERE v.attrelid = i.indrelid AND v.attname = %s AND (v.attnum = i.indkey[0] "
    "OR i.indkey[0] = 0 AND EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_class'::regclass "
    "AND d.objid = i.indexrelid AND d.refobjid = i.indrelid AND d.refobjsubid = v.attnum)))"
)
"""On an index `i`: that it is over one column, or what is computed of it. A table may have other vectors, too."""
_EMBEDDINGS: Final = "langchain_pg_embedding"
_NODE_COLUMNS: Final = frozenset({"id", "text", "metadata_", "node_id", "embedding"})
_TEXTS: Final = ("content", "page_content", "document", "text")
_JSONS: Final = ("langchain_metadata", "cmetadata", "metadata_", "metadata")
_ROLES: Final = ("content", "embedding", "id", "metadata")
_CHARACTERS: Final = frozenset({"text", "varchar", "bpchar"})
_VECTORS: Final = ("vector", "halfvec")
_NO_METADATA: Final = frozenset({*_VECTORS, "sparsevec", "tsvector", "bytea"})
_METRICS: Final[Mapping[str, Metric]] = {"cosine": "cosine", "ip": "dot", "l2": "euclidean", "l1": "manhattan"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """One of several that share LangChain's table."""

    uuid: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of a table.

    Attributes:
        name: As it is.
        type: With its schema and its size, as a statement has it.
        kind: The name of its type alone.
        size: What its type is declared to hold, such as the coordinates of a vector; -1 if that is not said.
        is_required: Whether it holds a value in every row.
        is_generated: Whether the server computes it.
    """

    name: str
    type: str
    kind: str
    size: int
    is_required: bool
    is_generated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table with vectors, or the part of one that is a collection.

    Attributes:
        oid: The server's number of it, which it keeps under another name.
        schema: Where it is.
        name: In its schema.
        columns: Every one.
        key: The column by which rows are read on: unique, never null, and indexed.
        id: The column that frameworks call a document's id.
        text: The column of the text.
        vector: The column of the vectors.
        json: The column of metadata that have no columns of their own.
        extension_schema: Where pgvector is installed.
        collection: If it is only one of those in the table.
        is_of_nodes: Whether LlamaIndex filled it.
    """

    oid: int
    schema: str
    name: str
    columns: tuple[Column, ...]
    key: str
    id: str
    text: str
    vector: str
    json: str | None
    extension_schema: str
    collection: Collection | None = None
    is_of_nodes: bool = False

    @property
    def sql(self) -> str:
        """Its name in statements."""
        return quoted(self.schema, self.name)

    @property
    def shown(self) -> str:
        """What a person would type to name it."""
        if self.collection is not None:
            return self.collection.name if self.schema == "public" else f"{self.schema}.{self.collection.name}"
        return self.name if self.schema == "public" else f"{self.schema}.{self.name}"

    def rows_of(self, alias: str = "t") -> str:
        """The condition on its rows, which all of them meet unless a collection is meant."""
        return "true" if self.collection is None else f"{alias}.collection_id = {literal(self.collection.uuid)}::uuid"

    @property
    def collections(self) -> str:
        """The table of collections, in statements."""
        return quoted(self.schema, COLLECTIONS)

    @property
    def kind(self) -> str:
        """The type of its vectors: `vector` or `halfvec`."""
        return self.column(self.vector).kind

    @property
    def dimensions(self) -> int | None:
        """Those that its column is declared with; `None` if rows may differ."""
        size = self.column(self.vector).size
        return size if size > 0 else None

    @property
    def key_type(self) -> str:
        """The type of its key."""
        return self.column(self.key).type

    @property
    def metadata(self) -> tuple[str, ...]:
        """The columns that are part of a document's metadata."""
        apart = {self.key, self.id, self.text, self.vector, self.json}
        apart |= {"collection_id"} if self.collection is not None else set()
        return tuple(c.name for c in self.columns if c.name not in apart and c.kind not in _NO_METADATA)

    def column(self, name: str) -> Column:
        """One of its columns."""
        return next(column for column in self.columns if column.name == name)

    def vector_type(self, dimensions: int | None) -> str:
        """The type of vectors of as many coordinates; of any, if that is not said."""
        return quoted(self.extension_schema, self.kind) + ("" if dimensions is None else f"({dimensions})")


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorIndex:
    """An index by which neighbours of a vector are found.

    Attributes:
        kind: Such as `hnsw`.
        opclass: The operators that it serves, such as `vector_cosine_ops`.
        options: As it was made with them.
    """

    kind: str
    opclass: str
    options: tuple[str, ...]

    @property
    def metric(self) -> Metric:
        """How it compares vectors."""
        return _METRICS.get(self.opclass.removesuffix("_ops").rpartition("_")[2], "unknown")

    def __str__(self) -> str:
        """Such as `hnsw (m=16)`."""
        return f"{self.kind} ({', '.join(self.options)})" if self.options else self.kind


def find_table(server: Server, wanted: str | None) -> Table:
    """The table, or the collection in one, of a name; the only one there is if none is named.

    Args:
        server: The database.
        wanted: A collection, a table, or a schema and a table with a dot between; then, after a `?`, which column is
            what where that cannot be seen, such as `docs.notes?content=body&id=key`.

    Raises:
        StoreError: There is none, or there are several, or it cannot be told what its columns are.
    """
    if not server.all("SELECT 1 FROM pg_extension WHERE extname = 'vector'"):
        hint = "Say which database. Where it should have vectors: `CREATE EXTENSION vector`."
        raise StoreError(f"`{server.address}` does not have the extension pgvector.", store=server.address, hint=hint)
    found, unseen = _candidates(server)
    name, _, columns = (wanted or "").partition("?")
    if wanted in found:  # collections may be called anything
        name, columns = wanted, ""
    if not name:
        if len(found) != 1:
            message = f"`{server.address}` has {len(found)} collections and tables of vectors."
            hint = f"Say which: {', '.join(sorted(found))}." if found else "There is nothing to migrate."
            raise StoreError(message, store=server.address, hint=f"{hint}{unseen}")
        (name,) = found
    key = next((each for each in (name, name.removeprefix("public.")) if each in found), None)
    if key is None:
        hint = f"It has {', '.join(f'`{each}`' for each in sorted(found)) or 'none'}.{unseen}"
        message = f"`{server.address}` has no collection or table of vectors `{name}`."
        raise StoreError(message, store=server.address, hint=hint)
    if len(found[key]) > 1:
        message = f"`{server.address}` has {len(found[key])} collections and tables of vectors that are called `{key}`."
        raise StoreError(message, store=server.address, hint="Rename all of them but one.")
    oid, collection = found[key][0]
    return _read_table(server, oid, collection, dict(parse_qsl(columns, keep_blank_values=True)))


def _candidates(server: Server) -> tuple[dict[str, list[tuple[int, Collection | None]]], str]:
    """Every table and collection with vectors, by the name that a person would type.

    Returns:
        Them, and a sentence for a hint where the user may not see which collections there are.
    """
    query = (
        "SELECT DISTINCT n.nspname, c.relname, c.oid, EXISTS (SELECT 1 FROM pg_class l WHERE l.relnamespace = n.oid "
        f"AND l.relname = '{COLLECTIONS}' AND has_schema_privilege(n.oid, 'USAGE') "
        "AND has_table_privilege(l.oid, 'SELECT')) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "JOIN pg_attribute a ON a.attrelid = c.oid JOIN pg_type t ON t.oid = a.atttypid "
        "WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND t.typname IN ('vector', 'halfvec') "
        f"AND NOT a.attisdropped AND c.relname !~ '^{PREFIX}[0-9a-z]{{12}}_' ORDER BY 1, 2"
    )
    found: dict[str, list[tuple[int, Collection | None]]] = {}
    unseen: list[str] = []
    for schema, name, oid, is_readable in server.all(query):
        stores: list[tuple[str, Collection | None]] = [(name, None)]
        if name == _EMBEDDINGS:
            unseen += [] if is_readable else [f"`{schema}`"]
            query = f"SELECT uuid::text, name FROM {quoted(schema, COLLECTIONS)} WHERE name IS NOT NULL"
            rows = server.all(query) if is_readable else []
            stores = [(own, Collection(uuid=uuid, name=own)) for uuid, own in rows]
        for own, collection in stores:
            found.setdefault(own if schema == "public" else f"{schema}.{own}", []).append((oid, collection))
    return found, f" Collections of {', '.join(unseen)} cannot be read." if unseen else ""


def _read_table(
    server: Server, oid: int, collection: Collection | None = None, said: Mapping[str, str] | None = None
) -> Table:
    """Look at a table's columns.

    Args:
        server: The database.
        oid: Of the table.
        collection: If only its rows are meant.
        said: Which column is `id`, `content`, `embedding` or `metadata`, where a person said so.
    """
    said = said or {}
    query = (
        "SELECT n.nspname, c.relname, c.relkind = 'p' OR c.relispartition OR c.relhassubclass OR EXISTS (SELECT 1 FROM "
        "pg_inherits i WHERE i.inhrelid = c.oid), (SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = "
        "e.extnamespace WHERE e.extname = 'vector') FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE c.oid = %s"
    )
    schema, name, has_parts, extension_schema = server.one(query, [oid])
    shown = f"{server.address}, table {schema}.{name}"
    if has_parts:
        message = f"`{shown}` is partitioned, or inherits: such tables cannot be migrated."
        raise StoreError(message, store=shown, hint="Copy its rows into a plain table, and migrate that one.")
    columns = _columns(server, oid)
    chooses = _Chooser(shown, columns, said)
    vector = chooses.one("embedding", ("embedding",), _VECTORS)
    key = chooses.key(server, oid, said.get("id"))
    names = {column.name for column in columns}
    is_of_nodes = names >= _NODE_COLUMNS
    own_id = "node_id" if is_of_nodes else "custom_id" if collection and "custom_id" in names else key
    json = chooses.at_most_one("metadata", _JSONS, ("json", "jsonb"))
    return Table(
        oid=oid,
        schema=schema,
        name=name,
        columns=columns,
        key=key,
        id=own_id,
        text=chooses.one("content", _TEXTS, _CHARACTERS - {"bpchar"}, {key, own_id}),
        vector=vector,
        json=json,
        extension_schema=extension_schema,
        collection=collection,
        is_of_nodes=is_of_nodes,
    )


def _columns(server: Server, oid: int) -> tuple[Column, ...]:
    query = (
        "SELECT a.attname, format_type(a.atttypid, a.atttypmod), t.typname, a.atttypmod, a.attnotnull, "
        "a.attgenerated <> '' FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid "
        "WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"
    )
    names = ("name", "type", "kind", "size", "is_required", "is_generated")
    return tuple(Column(**dict(zip(names, row, strict=True))) for row in server.all(query, [oid]))


def table_named(server: Server, schema: str, name: str) -> Table:
    """A table by its own name, whatever that begins with.

    Raises:
        StoreError: It is not there.
    """
    oid = server.one("SELECT to_regclass(%s)::oid", [quoted(schema, name)])[0]
    if oid is None:
        raise StoreError(f"`{server.address}` has no table `{schema}.{name}`.", store=server.address)
    return _read_table(server, oid)


def own_table(server: Server, table: Table, name: str) -> Table:
    """A table that a migration made beside another one: of the same columns, but for the size of its vectors.

    Raises:
        StoreError: It is not there.
    """
    oid = server.one("SELECT to_regclass(%s)::oid", [quoted(table.schema, name)])[0]
    if oid is None:
        message = f"The table `{name}`, with vectors of `{table.shown}`, is not there."
        raise StoreError(message, store=table.shown)
    return replace(table, oid=oid, name=name, columns=_columns(server, oid))


class _Chooser:
    """Tells which column is what: by what a person said, by its usual names, or because it is the only one."""

    def __init__(self, shown: str, columns: tuple[Column, ...], said: Mapping[str, str]) -> None:
        if unknown := said.keys() - _ROLES:
            hint = f"What can be said is {', '.join(f'`{role}=COLUMN`' for role in _ROLES)}."
            raise StoreError(f"`{shown}`: no column is its `{unknown.pop()}`.", store=shown, hint=hint)
        self._shown = shown
        self._columns = columns
        self._said = said

    def one(self, role: str, usual: tuple[str, ...], kinds: Any, apart: frozenset[str] | set[str] = frozenset()) -> str:
        """The column of a role, or an error that says how to name it."""
        possible = [c.name for c in self._columns if c.kind in kinds and c.name not in apart]
        found = self._chosen(role, usual, possible)
        if found is None:
            raise self._unclear(role, possible)
        return found

    def at_most_one(self, role: str, usual: tuple[str, ...], kinds: Any) -> str | None:
        """The column of a role; none if several may be, and nothing tells them apart."""
        possible = [c.name for c in self._columns if c.kind in kinds]
        found = self._chosen(role, usual, possible)
        if found is None and role in self._said:
            raise self._unclear(role, possible)
        return found

    def _unclear(self, role: str, possible: list[str]) -> StoreError:
        message = f"`{self._shown}`: it cannot be told which column is its {role}."
        hint = f"Say so after its name: `--name 'schema.table?{role}=COLUMN'`; {', '.join(possible) or 'none'} may be."
        return StoreError(message, store=self._shown, hint=hint)

    def _chosen(self, role: str, usual: tuple[str, ...], possible: list[str]) -> str | None:
        if role in self._said:
            return self._said[role] if self._said[role] in possible else None
        return next((name for name in usual if name in possible), possible[0] if len(possible) == 1 else None)

    def key(self, server: Server, oid: int, said: str | None) -> str:
        """A column that is unique and in every row, the primary key before others."""
        query = (
            "SELECT a.attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid "
            "AND a.attnum = i.indkey[0] WHERE i.indrelid = %s AND i.indisunique AND i.indisvalid "
            "AND i.indpred IS NULL AND i.indnkeyatts = 1 "
            "AND a.attnotnull ORDER BY i.indisprimary DESC, a.attnum"
        )
        found = [row[0] for row in server.all(query, [oid])]
        if said in found:
            return str(said)
        if not found or said is not None:
            message = f"`{self._shown}` has no column that tells its rows apart: none is unique and never null."
            hint = "Give it a primary key of one column: `ALTER TABLE ... ADD PRIMARY KEY (...)`."
            raise StoreError(message, store=self._shown, hint=hint)
        return str(found[0])


def vector_indexes(server: Server, table: Table) -> list[VectorIndex]:
    """The indexes over a table's vectors."""
    query = (
        "SELECT m.amname, o.opcname, coalesce(c.reloptions, '{}'), pg_get_expr(i.indpred, i.indrelid) FROM pg_index i "
        "JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam "
        "JOIN pg_opclass o ON o.oid = i.indclass[0] WHERE i.indrelid = %s AND m.amname IN ('hnsw', 'ivfflat') "
        f"AND {OVER_VECTORS} ORDER BY c.relname"
    )
    collection = table.collection
    return [
        VectorIndex(kind=kind, opclass=opclass, options=tuple(options))
        for kind, opclass, options, condition in server.all(query, [table.oid, table.vector])
        if collection is None or condition is None or collection.uuid in condition
    ]
