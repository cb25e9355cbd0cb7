"""The statement that creates a database for a restore."""

from __future__ import annotations

from psycopg import sql

from flows.backup.manifest import Locale
from flows.backup.postgres import Connection


def create_database(name: sql.Identifier, locale: Locale | None, template: str | None, *, version: int) -> sql.Composed:
    """Create it without connections.

    Whoever connects to every new database shall not get in before PUBLIC is kept out.
    """
    words = sql.SQL("CREATE DATABASE {} TEMPLATE {} IS_TEMPLATE true ALLOW_CONNECTIONS false")
    create = words.format(name, sql.Identifier(template or "template0"))
    if locale is None or template:
        return create
    options = {"ENCODING": locale.encoding, "LC_COLLATE": locale.collate, "LC_CTYPE": locale.ctype}
    if locale.provider in ("i", "b") and locale.locale and version >= 150000:
        options["LOCALE_PROVIDER"] = "icu" if locale.provider == "i" else "builtin"
        options["ICU_LOCALE" if locale.provider == "i" else "BUILTIN_LOCALE"] = locale.locale
    elif version >= 150000:
        options["LOCALE_PROVIDER"] = "libc"
    given = [sql.SQL(f"{word} {{}}").format(sql.Literal(value)) for word, value in options.items()]
    return create + sql.SQL(" ") + sql.SQL(" ").join(given)


def in_tablespace(server: Connection, name: str | None) -> sql.Composable:
    """Where the server has it and the login may use it. Preflight has named one that cannot be had."""
    query = "SELECT pg_catalog.has_tablespace_privilege(oid, 'CREATE') FROM pg_catalog.pg_tablespace WHERE spcname = %s"
    row = server.execute(query, (name,)).fetchone() if name else None
    return sql.SQL(" TABLESPACE {}").format(sql.Identifier(str(name))) if row and row[0] else sql.SQL("")
