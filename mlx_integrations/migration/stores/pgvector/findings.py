"""What is wrong with a table of vectors, and what keeps it from being migrated."""

from collections.abc import Iterator, Mapping

from mlx_integrations.adapters.store_records.pgvector import quoted
from mlx_integrations.errors import StoreError
from mlx_integrations.migration.records import Finding
from mlx_integrations.migration.stores.findings import EXAMPLES, missing_texts
from mlx_integrations.migration.stores.pgvector.clone import INDEX_LIMITS, dependents
from mlx_integrations.migration.stores.pgvector.server import Server
from mlx_integrations.migration.stores.pgvector.swap import way_of
from mlx_integrations.migration.stores.pgvector.tables import Table

__all__ = ["check_wish", "faults", "hindrances", "sizes_of"]


def sizes_of(server: Server, table: Table) -> dict[int, int]:
    """How many vectors there are of each number of coordinates."""
    vector, where = f"t.{quoted(table.vector)}", f"WHERE {table.rows_of()} AND t.{quoted(table.vector)} IS NOT NULL"
    if table.dimensions is not None:
        (is_filled,) = server.one(f"SELECT EXISTS (SELECT 1 FROM {table.sql} t {where})")
        return {table.dimensions: 0} if is_filled else {}
    size = f"{quoted(table.extension_schema, 'vector_dims')}({vector})"
    return dict(server.all(f"SELECT {size}, count(*) FROM {table.sql} t {where} GROUP BY 1"))


def faults(server: Server, table: Table, sizes: Mapping[int, int]) -> Iterator[Finding]:
    """What is wrong with the rows."""
    if len(sizes) > 1:
        others = sum(sizes.values()) - max(sizes.values())
        message = "Their vectors have other dimensions than the rest: another model made them."
        yield Finding(code="mixed-dimensions", message=message, count=others)
    found = f"FROM {table.sql} t WHERE {table.rows_of()} AND t.{quoted(table.vector)} IS"
    if without := _examples(server, table, f"{found} NULL"):
        message = "They have no vector, and keep none."
        yield Finding(code="missing-vectors", message=message, count=without[0], examples=without[1])
    if table.is_of_nodes:  # what was embedded of a node is more than its text
        return
    text = f"t.{quoted(table.text)}"
    if missing := _examples(server, table, f"{found} NOT NULL AND ({text} IS NULL OR {text} !~ '\\S')"):
        yield missing_texts(*missing)


def _examples(server: Server, table: Table, found: str) -> tuple[int, tuple[str, ...]] | None:
    """How many rows there are, and the ids of a few."""
    (count,) = server.one(f"SELECT count(*) {found}")
    order = f"ORDER BY t.{quoted(table.key)} LIMIT {EXAMPLES}"
    ids = server.all(f"SELECT t.{quoted(table.id)}::text {found} {order}") if count else []
    return (count, tuple(row[0] for row in ids)) if count else None


def hindrances(server: Server, table: Table) -> Iterator[Finding]:
    """What keeps the vectors from being replaced, or makes it take long."""
    (is_standby,) = server.one("SELECT pg_is_in_recovery()")
    if is_standby:
        message = "The server is a standby, which cannot be written to: name the primary one."
        yield Finding(code="read-only", message=message, is_blocking=True)
    query = (
        "SELECT pg_has_role(c.relowner, 'USAGE'), has_schema_privilege(c.relnamespace, 'CREATE') FROM pg_class c "
        "WHERE c.oid = %s"
    )
    for has_right, message in zip(
        server.one(query, [table.oid]),
        ("Only the owner of the table may replace it.", "Who migrates needs the right to create in its schema."),
        strict=True,
    ):
        if not has_right:
            yield Finding(code="missing-privilege", message=message, is_blocking=True)
    if way_of(server, table) == "update":
        message = "Its table is not its own: the vectors of its rows are replaced in one transaction, which takes long."
        yield Finding(code="shared-table", message=message)
        if table.dimensions is not None:
            message = f"The column that it shares holds vectors of {table.dimensions} dimensions only."
            yield Finding(code="shared-column", message=message, is_blocking=True)
    elif found := dependents(server, table):
        names = tuple(f"{each.kind} {each.name}" for each in found)
        message = "These mean the table itself, and would go on meaning the old one: " + ", ".join(names) + "."
        yield Finding(code="dependents", message=message, count=len(found), examples=names, is_blocking=True)


def check_wish(server: Server, table: Table, kind: str, dimensions: int) -> None:
    """Refuse an index that cannot be built.

    Args:
        server: The database.
        table: What it would be over.
        kind: Such as `hnsw`.
        dimensions: Of the new vectors.

    Raises:
        StoreError: It cannot.
    """
    if dimensions > (limit := INDEX_LIMITS[table.kind]):
        message = f"`{kind}` takes at most {limit} dimensions of type {table.kind}."
        raise StoreError(message, store=table.shown, hint="Build without one: `--index none`.")
    if table.dimensions is None or way_of(server, table) == "update":
        raise StoreError(
            f"The vectors of `{table.shown}` share a column, or may have any size: `{kind}` cannot be built over it.",
            store=table.shown,
            hint="Leave `--index` out, and make an index over an expression, such as `embedding::vector(384)`.",
        )
