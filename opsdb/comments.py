"""Brings the descriptions of tables, views and columns into the database, as comments, at each upgrade."""

from __future__ import annotations

from psycopg import sql
from sqlalchemy import Connection, text

from opsdb.descriptions import ANYWHERE, RELATIONS

_FOUND = text("""
SELECT c.relname AS relation, c.relkind AS kind, a.attname AS attribute, obj_description(c.oid, 'pg_class') AS said,
       col_description(c.oid, a.attnum) AS attribute_said
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relnamespace = 'ops'::regnamespace AND c.relkind IN ('r', 'v') ORDER BY 1, a.attnum
""")


def describe(db: Connection) -> None:
    """Bring the comments of the schema to these texts, as its owner. What stands already is not touched."""
    done = set[str]()
    for row in db.execute(_FOUND).all():
        said, columns = RELATIONS.get(row.relation, ("", {}))
        relation = sql.Identifier("ops", row.relation)
        if said and said != row.said and row.relation not in done:
            word = sql.SQL("VIEW" if row.kind == "v" else "TABLE")
            _comment(db, sql.SQL("{} {}").format(word, relation), said)
        done.add(row.relation)
        wanted = columns.get(row.attribute) or ANYWHERE.get(row.attribute)
        if wanted and wanted != row.attribute_said:
            _comment(db, sql.SQL("COLUMN {}").format(sql.Identifier("ops", row.relation, row.attribute)), wanted)


def _comment(db: Connection, on: sql.Composable, said: str) -> None:
    statement = sql.SQL("COMMENT ON {} IS {}").format(on, sql.Literal(said)).as_string(None)
    db.exec_driver_sql(statement.replace("%", "%%"))
