"""Makes a table like another one, with vectors of another size, and everything else that somebody set up for it.

`LIKE` of PostgreSQL copies columns with defaults, checks, comments and storage. What it leaves out is done here: keys,
indexes, foreign keys, triggers, row level security, rights, the owner, and options of the table. Definitions come from
the server's own functions, whose text changes only in the table's name and in the size of its vectors.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from mlx_integrations.adapters.store_records.pgvector import literal, quoted
from mlx_integrations.errors import StoreError
from mlx_integrations.migration.records import Metric
from mlx_integrations.migration.stores.pgvector.server import Server
from mlx_integrations.migration.stores.pgvector.tables import OVER_VECTORS, Table

__all__ = [
    "INDEX_LIMITS",
    "Dependent",
    "cast_to",
    "create_empty",
    "dependents",
    "finish",
    "index_limit",
    "index_names",
    "wish",
]

INDEX_LIMITS: Final[Mapping[str, int]] = {"vector": 2000, "halfvec": 4000, "bit": 64_000}
"""Coordinates that an index of HNSW or IVFFlat takes, by the type of the vectors: https://github.com/pgvector/pgvector"""

_METHODS: Final = ("hnsw", "ivfflat")
_OPERATORS: Final[Mapping[Metric, str]] = {"cosine": "cosine", "dot": "ip", "euclidean": "l2", "manhattan": "l1"}
_WISH: Final = re.compile(r"\s*(hnsw|ivfflat|none)\s*(?:\(([\w\s=,]*)\))?\s*", re.IGNORECASE)
_STORAGE: Final = {"p": "PLAIN", "e": "EXTERNAL", "x": "EXTENDED", "m": "MAIN"}
_ENABLING: Final = {"D": "DISABLE TRIGGER", "R": "ENABLE REPLICA TRIGGER", "A": "ENABLE ALWAYS TRIGGER"}
_DEFINITION: Final = re.compile(
    r'CREATE (UNIQUE |)INDEX (?:"(?:[^"]|"")*"|[^" ]+) ON (?:(?:"(?:[^"]|"")*"|[^". ]+)\.?)+ (USING .*)', re.DOTALL
)
_ADDED_LATER: Final = "(contype = 'f' OR contype = 'c' AND NOT convalidated)"
_COMMANDS: Final = {"r": "SELECT", "a": "INSERT", "w": "UPDATE", "d": "DELETE", "*": "ALL"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependent:
    """Something that would go on meaning the old table if another one got its name."""

    kind: str
    name: str


def dependents(server: Server, table: Table) -> list[Dependent]:
    """What means the table itself rather than its name."""
    query = (
        "SELECT DISTINCT 'view', r.ev_class::regclass::text FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid "
        "WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = %(oid)s "
        "AND r.ev_class <> %(oid)s UNION ALL "
        "SELECT 'rule', rulename FROM pg_rewrite WHERE ev_class = %(oid)s UNION ALL "
        "SELECT 'foreign key', conname || ' of ' || conrelid::regclass FROM pg_constraint "
        "WHERE contype = 'f' AND confrelid = %(oid)s UNION ALL "
        "SELECT 'function', d.objid::regprocedure::text FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND "
        "(d.refobjid = %(oid)s OR d.refobjid = (SELECT reltype FROM pg_class WHERE oid = %(oid)s)) UNION ALL "
        # Of the table itself only those that ask it again.
        "SELECT DISTINCT 'policy', p.polname || ' of ' || p.polrelid::regclass FROM pg_depend d JOIN pg_policy p "
        "ON p.oid = d.objid WHERE d.classid = 'pg_policy'::regclass AND d.refclassid = 'pg_class'::regclass "
        "AND d.refobjid = %(oid)s AND (p.polrelid <> %(oid)s "
        "OR concat(p.polqual, p.polwithcheck) LIKE '%:relid %(oid)s %') UNION ALL "
        "SELECT 'column', attname || ' of ' || attrelid::regclass FROM pg_attribute a JOIN pg_type t "
        "ON a.atttypid IN (t.oid, t.typarray) WHERE t.typrelid = %(oid)s AND NOT a.attisdropped UNION ALL "
        "SELECT 'publication', p.pubname FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid "
        "WHERE r.prrelid = %(oid)s ORDER BY 1, 2"
    )
    rows = server.all(query.replace("%(oid)s", str(table.oid)))
    return [Dependent(kind=kind, name=name) for kind, name in rows]


def create_empty(server: Server, table: Table, name: str, dimensions: int | None) -> None:
    """Make the new table, without rows, keys and indexes.

    Args:
        server: The database.
        table: The old one.
        name: Of the new one.
        dimensions: Of its vectors; any, if the old column takes any.
    """
    query = (
        "SELECT c.relpersistence = 'u', m.amname, s.spcname, coalesce(c.reloptions, '{}') || coalesce((SELECT "
        "array_agg('toast.' || o) FROM pg_class t, unnest(t.reloptions) o WHERE t.oid = c.reltoastrelid), '{}') "
        "FROM pg_class c JOIN pg_am m ON m.oid = c.relam LEFT JOIN pg_tablespace s ON s.oid = c.reltablespace "
        "WHERE c.oid = %s"
    )
    is_unlogged, method, space, options = server.one(query, [table.oid])
    new = quoted(table.schema, name)
    server.do(
        f"CREATE {'UNLOGGED ' if is_unlogged else ''}TABLE {new} (LIKE {table.sql} INCLUDING ALL EXCLUDING INDEXES) "
        f"USING {quoted(method)}"
        + (f" WITH ({', '.join(options)})" if options else "")
        + (f" TABLESPACE {quoted(space)}" if space else "")
    )
    if dimensions is not None and dimensions != table.dimensions:
        server.do(f"ALTER TABLE {new} ALTER COLUMN {quoted(table.vector)} TYPE {table.vector_type(dimensions)}")
    query = f"SELECT conname FROM pg_constraint WHERE conrelid = %s AND contype = 'c' AND {_ADDED_LATER}"
    for (constraint,) in server.all(query, [table.oid]):
        server.do(f"ALTER TABLE {new} DROP CONSTRAINT {quoted(constraint)}")
    query = "SELECT attname, attstorage, attstattarget FROM pg_attribute WHERE attrelid = %s AND attnum > 0"
    for column, storage, target in server.all(f"{query} AND NOT attisdropped", [table.oid]):
        server.do(f"ALTER TABLE {new} ALTER COLUMN {quoted(column)} SET STORAGE {_STORAGE[storage]}")
        if target is not None and target >= 0:
            server.do(f"ALTER TABLE {new} ALTER COLUMN {quoted(column)} SET STATISTICS {int(target)}")


def finish(
    server: Server, table: Table, name: str, dimensions: int, index: str, metric: Metric, temporary: str
) -> None:
    """Give the new table, which has its rows, everything else that the old one has.

    Args:
        server: The database.
        table: The old one.
        name: Of the new one.
        dimensions: Of the new vectors.
        index: The kind of index over vectors that a person wishes; what the old one has if empty.
        metric: How a new index compares, where the old table has none.
        temporary: With what the names of its indexes begin, before the numbers of `index_names`: the old ones have
            theirs still.
    """
    new = quoted(table.schema, name)
    for statement in _index_statements(server, table, new, dimensions, index, metric, temporary):
        server.do(statement)
    for statement in (
        *_constraints(server, table, new),
        *_triggers(server, table, new),
        *_policies(server, table, new),
        *_marks(server, table, new, temporary),
    ):
        server.do(statement)
    _give_rights(server, table, new)
    server.do(f"ANALYZE {new}")


def index_names(server: Server, table: Table) -> list[str]:
    """The old table's indexes, in the order that numbers the new ones."""
    query = "SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = %s"
    return [row[0] for row in server.all(f'{query} ORDER BY c.relname COLLATE "C"', [table.oid])]


def _index_statements(
    server: Server, table: Table, new: str, dimensions: int, index: str, metric: Metric, temporary: str
) -> Iterator[str]:
    query = (
        "SELECT c.relname, pg_get_indexdef(c.oid), m.amname, pg_get_constraintdef(o.oid), "
        f"obj_description(c.oid, 'pg_class'), i.indisclustered, i.indisreplident, p.opcname, {OVER_VECTORS} "
        "FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam "
        "JOIN pg_opclass p ON p.oid = i.indclass[0] LEFT JOIN pg_constraint o ON o.conindid = c.oid "
        "AND o.conrelid = i.indrelid AND o.contype IN ('p', 'u', 'x') WHERE i.indrelid = %s "
        'ORDER BY c.relname COLLATE "C"'
    )
    for number, row in enumerate(server.all(query, [table.vector, table.oid])):
        _, definition, method, constraint, comment, is_clustered, is_identity, opclass, is_over = row
        own = f"{temporary}{number}"
        if constraint is not None:
            yield f"ALTER TABLE {new} ADD CONSTRAINT {quoted(own)} {constraint}"
        elif is_over and method in _METHODS and (index or dimensions > index_limit(opclass)):
            continue
        else:
            fitting = cast_to(definition, table.dimensions, dimensions) if is_over else definition
            yield index_statement(fitting, new, own)
        if comment is not None:
            yield f"COMMENT ON INDEX {quoted(table.schema, own)} IS {literal(comment)}"
        if is_clustered:
            yield f"ALTER TABLE {new} CLUSTER ON {quoted(own)}"
        if is_identity:
            yield f"ALTER TABLE {new} REPLICA IDENTITY USING INDEX {quoted(own)}"
    kind, options = wish(index)
    if kind not in ("", "none"):
        opclass = f"{table.kind}_{_OPERATORS.get(metric, 'cosine')}_ops"
        yield (
            f"CREATE INDEX ON {new} USING {kind} ({quoted(table.vector)} {quoted(table.extension_schema, opclass)})"
            + (f" WITH ({options})" if options else "")
        )


def wish(index: str) -> tuple[str, str]:
    """The kind of index, and its options, that a person wishes.

    Args:
        index: Such as `hnsw`, `ivfflat (lists=100)` or `none`; empty for no wish.

    Raises:
        StoreError: It is none that pgvector has.
    """
    if not index:
        return "", ""
    found = _WISH.fullmatch(index)
    if found is None:
        hint = "Such as `hnsw`, `hnsw (m=16, ef_construction=64)`, `ivfflat (lists=100)` or `none`."
        raise StoreError(f"`{index}` is no index of pgvector.", store="postgresql", hint=hint)
    return found[1].lower(), (found[2] or "").strip()


def index_limit(opclass: str) -> int:
    """How many coordinates an index of these operators takes."""
    return INDEX_LIMITS.get(opclass.partition("_")[0], INDEX_LIMITS["vector"])


def index_statement(definition: str, new: str, name: str) -> str:
    """What makes an index like another one, on another table.

    Args:
        definition: By `pg_get_indexdef`.
        new: The table, as statements have it.
        name: Of the new index.
    """
    found = _DEFINITION.fullmatch(definition)
    assert found is not None
    return f"CREATE {found[1]}INDEX {quoted(name)} ON {new} {found[2]}"


def cast_to(expression: str, before: int | None, dimensions: int) -> str:
    """An expression in which vectors of one size, or of any if none is given, have another one."""
    if before is None and "subvector(" in expression:
        return expression
    size = r"\d+" if before is None else str(before)
    return re.sub(rf"(::(?:[\w\"]+\.)?(?:vector|halfvec|bit))\({size}\)", rf"\1({dimensions})", expression)


def _constraints(server: Server, table: Table, new: str) -> Iterator[str]:
    """Those that `LIKE` leaves out, and those that old rows need not meet."""
    query = f"SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = %s AND {_ADDED_LATER}"
    for name, definition in server.all(query, [table.oid]):
        yield f"ALTER TABLE {new} ADD CONSTRAINT {quoted(name)} {definition}"


def _triggers(server: Server, table: Table, new: str) -> Iterator[str]:
    query = "SELECT tgname, pg_get_triggerdef(oid), tgenabled FROM pg_trigger WHERE tgrelid = %s AND NOT tgisinternal"
    (old,) = server.one("SELECT quote_ident(%s) || '.' || quote_ident(%s)", [table.schema, table.name])
    for name, definition, enabled in server.all(query, [table.oid]):
        yield definition.replace(f" ON {old} ", f" ON {new} ", 1)
        if enabled in _ENABLING:
            yield f"ALTER TABLE {new} {_ENABLING[enabled]} {quoted(name)}"


def _policies(server: Server, table: Table, new: str) -> Iterator[str]:
    query = (
        "SELECT polname, polpermissive, polcmd, (SELECT string_agg(CASE r WHEN 0 THEN 'PUBLIC' ELSE "
        "quote_ident(pg_get_userbyid(r)) END, ', ') FROM unnest(polroles) r), pg_get_expr(polqual, polrelid), "
        "pg_get_expr(polwithcheck, polrelid) FROM pg_policy WHERE polrelid = %s"
    )
    for name, is_permissive, command, roles, using, check in server.all(query, [table.oid]):
        yield (
            f"CREATE POLICY {quoted(name)} ON {new} AS {'PERMISSIVE' if is_permissive else 'RESTRICTIVE'} "
            f"FOR {_COMMANDS[command]} TO {roles}"
            + (f" USING ({using})" if using is not None else "")
            + (f" WITH CHECK ({check})" if check is not None else "")
        )


def _marks(server: Server, table: Table, new: str, temporary: str) -> Iterator[str]:
    """Single facts of a table."""
    query = (
        "SELECT relrowsecurity, relforcerowsecurity, relreplident, obj_description(oid, 'pg_class') "
        "FROM pg_class WHERE oid = %s"
    )
    is_secured, is_forced, identity, comment = server.one(query, [table.oid])
    if is_secured:
        yield f"ALTER TABLE {new} ENABLE ROW LEVEL SECURITY"
    if is_forced:
        yield f"ALTER TABLE {new} FORCE ROW LEVEL SECURITY"
    if identity in ("f", "n"):
        yield f"ALTER TABLE {new} REPLICA IDENTITY {'FULL' if identity == 'f' else 'NOTHING'}"
    if comment is not None:
        yield f"COMMENT ON TABLE {new} IS {literal(comment)}"


def _give_rights(server: Server, table: Table, new: str) -> None:
    """The same owner and the same rights; not those that new tables get by default."""
    owner, is_own = server.one(
        "SELECT quote_ident(pg_get_userbyid(relowner)), pg_get_userbyid(relowner) = current_user FROM pg_class "
        "WHERE oid = %s",
        [table.oid],
    )
    if not is_own:
        server.do(f"ALTER TABLE {new} OWNER TO {owner}")
    rights = (
        "SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END, "
        "a.privilege_type, a.is_grantable, "
    )
    on_table = f"{rights} '' FROM pg_class c, aclexplode(c.relacl) a WHERE c.oid = "
    on_columns = (
        f"{rights} '(' || quote_ident(c.attname) || ')' FROM pg_attribute c, aclexplode(c.attacl) a "
        "WHERE NOT c.attisdropped AND c.attrelid = "
    )
    by_default: list[tuple[Any, ...]] = server.all(f"{on_table} {literal(new)}::regclass")
    for grantee in sorted({row[0] for row in by_default} - {owner}):
        server.do(f"REVOKE ALL ON {new} FROM {grantee}")
    for query in (on_table, on_columns):
        for grantee, right, is_grantable, columns in server.all(f"{query} {table.oid}"):
            option = " WITH GRANT OPTION" if is_grantable and grantee != "PUBLIC" else ""
            server.do(f"GRANT {right} {columns} ON {new} TO {grantee}{option}")
