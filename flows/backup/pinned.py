"""A connection that reads a database as pg_dump does: in the database's own encoding, with every setting pinned."""

from __future__ import annotations

import json
import re

from psycopg.abc import Buffer
from psycopg.adapt import Loader

from flows.backup.postgres import Connection

# A value's text form depends on these.
_PINNED = {
    "search_path": "",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "xmloption": "content",
    "lc_monetary": "C",
    "row_security": "off",
    "jit": "off",
    "quote_all_identifiers": "off",
    "standard_conforming_strings": "on",
}
_TEXTS = ("text", "varchar", "bpchar", "name", '"char"', 0)
"""The types that are shown as text; 0 stands for all that psycopg does not know, such as regprocedure."""


def codec_of(encoding: str) -> str:
    """Python's name of a server's encoding. A database in SQL_ASCII holds any bytes: most likely they are UTF-8."""
    if encoding == "SQL_ASCII":
        return "utf-8"
    codec = re.sub("^WIN", "cp", encoding)
    try:
        "".encode(codec)
    except LookupError:  # EUC_TW and MULE_INTERNAL
        return "ascii"
    return codec


def pin_settings(db: Connection, *, statement_seconds: float, local: bool = False) -> None:
    """Make texts the same on each server, and let each statement take that long.

    For the session, or the transaction where it is `local`: behind a pooler the next one may be somebody else's.
    Nothing is converted on its way, since some texts cannot be: what is no text in the database's encoding is shown
    with backslashes.
    """
    limits = {
        "statement_timeout": str(int(statement_seconds * 1000)),
        "lock_timeout": "120s",
        "idle_in_transaction_session_timeout": "0",
    }
    if db.info.server_version >= 140000:
        limits["idle_session_timeout"] = "0"
        limits["client_connection_check_interval"] = "2s"  # else a query outlives the process that asked
    if db.info.server_version >= 170000:
        limits["transaction_timeout"] = "0"
    for name, value in (_PINNED | limits).items():
        db.execute("SELECT pg_catalog.set_config(%s, %s, %s)", (name, value, local))
    encoding = db.info.parameter_status("server_encoding") or "UTF8"
    unconverted = "UTF8" if encoding == "UTF8" else "SQL_ASCII"
    db.execute("SELECT pg_catalog.set_config('client_encoding', %s, %s)", (unconverted, local))
    _show_all(db, codec_of(encoding))


def encoded(db: Connection, statement: str) -> bytes:
    """A statement with names in it, for a connection of pin_settings()."""
    return statement.encode(codec_of(db.info.parameter_status("server_encoding") or "UTF8"), "surrogateescape")


def _show_all(db: Connection, codec: str) -> None:
    class TextLoader(Loader):
        def load(self, data: Buffer) -> str:
            return bytes(data).decode(codec, "backslashreplace")

    class JsonLoader(Loader):
        def load(self, data: Buffer) -> object:
            return json.loads(bytes(data).decode(codec, "backslashreplace"))

    for type_name in _TEXTS:
        db.adapters.register_loader(type_name, TextLoader)
    for type_name in ("json", "jsonb"):
        db.adapters.register_loader(type_name, JsonLoader)
