"""Whether a table is still what it was: its rows, and what somebody set up for it."""

from typing import Final

from mlx_integrations.adapters.store_records.pgvector import quoted
from mlx_integrations.migration.stores.pgvector.server import Server
from mlx_integrations.migration.stores.pgvector.tables import Table

__all__ = ["content_state", "table_state"]

# Indexes that allow equal values are left out: they may come and go, above all over the new vectors.
_SETUP: Final = (
    "SELECT concat_ws(' ', 'column', a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, "
    "a.attidentity, a.attgenerated, a.attacl, pg_get_expr(d.adbin, d.adrelid)) FROM pg_attribute a LEFT JOIN "
    "pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum WHERE a.attrelid = %(oid)s AND a.attnum > 0 "
    "AND NOT a.attisdropped UNION ALL "
    "SELECT concat_ws(' ', 'constraint', conname, pg_get_constraintdef(oid)) FROM pg_constraint "
    "WHERE conrelid = %(oid)s UNION ALL "
    "SELECT concat_ws(' ', 'index', pg_get_indexdef(indexrelid)) FROM pg_index "
    "WHERE indrelid = %(oid)s AND indisunique UNION ALL "
    "SELECT concat_ws(' ', 'trigger', pg_get_triggerdef(oid), tgenabled) FROM pg_trigger "
    "WHERE tgrelid = %(oid)s AND NOT tgisinternal UNION ALL "
    "SELECT concat_ws(' ', 'policy', polname, polpermissive, polcmd, polroles, pg_get_expr(polqual, polrelid), "
    "pg_get_expr(polwithcheck, polrelid)) FROM pg_policy WHERE polrelid = %(oid)s UNION ALL "
    "SELECT concat_ws(' ', 'rights', relowner, relacl, relrowsecurity, relforcerowsecurity) FROM pg_class "
    "WHERE oid = %(oid)s"
)


def content_state(server: Server, table: Table) -> str:
    """A text that is another one after any change of a table's rows.

    Every version of a row has the number of the transaction that wrote it. Counters of the server's statistics would
    be quicker to read, but come late, and not at all after a crash.
    """
    count, total = server.one(
        f"SELECT count(*), coalesce(sum(hashtextextended((t.{quoted(table.key)}::text || ' ' || t.xmin::text) "
        f'COLLATE "C", 0)), 0) FROM {table.sql} t WHERE {table.rows_of()}'
    )
    return f"{count}:{total}"


def table_state(server: Server, table: Table) -> str:
    """A text that is another one after any change of a table's rows, of its columns, or of who may do what with it.

    A column that is added, with a default or without, writes no row: a table that was built before would lack it.
    """
    facts = _SETUP.replace("%(oid)s", str(table.oid))
    (setup,) = server.one(f"SELECT md5(string_agg(fact, E'\\n' ORDER BY fact COLLATE \"C\")) FROM ({facts}) f (fact)")
    return f"{content_state(server, table)}:{setup}"
