"""A connection that reads a database as pg_dump does: in the database's own encoding, with every setting pinned."""

from __future__ import annotations

import codecs
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


_CODECS = {"SQL_ASCII": "utf-8", "KOI8R": "koi8_r", "KOI8U": "koi8_u"}
"""Python's names of encodings. A database in SQL_ASCII holds any bytes: most likely they are UTF-8."""
_NO_TEXT = "a character of its own for each byte that is not text"
_FIRST = 0xF700  # in Unicode's private area: nothing that is written by hand
_OF_BYTES = re.compile("([\uf780-\uf7ff])")


def codec_of(encoding: str) -> str:
    """Python's name of a server's encoding."""
    codec = _CODECS.get(encoding) or re.sub("^WIN", "cp", encoding)
    try:
        "".encode(codec)
    except LookupError:  # EUC_TW and MULE_INTERNAL
        return "ascii"
    return codec


def decoded(data: bytes, codec: str) -> str:
    """The text of these bytes. What is not text becomes characters that reencoded() knows."""
    return data.decode(codec, _NO_TEXT)


def reencoded(text: str, codec: str) -> bytes:
    """The bytes of a decoded() text."""
    parts = _OF_BYTES.split(text)
    return b"".join(
        bytes([ord(part) - _FIRST]) if number % 2 else part.encode(codec) for number, part in enumerate(parts)
    )


def _keep_bytes(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    wrong = error.object[error.start : error.end]
    return "".join(chr(_FIRST + byte) if byte > 127 else chr(byte) for byte in wrong), error.end


codecs.register_error(_NO_TEXT, _keep_bytes)


def pin_settings(db: Connection, *, statement_seconds: float, local: bool = False) -> None:
    """Make texts the same on each server, and let each statement take that long.

    For the session, or the transaction where it is `local`: behind a pooler the next one may be somebody else's.
    Nothing is converted on its way, since some texts cannot be: they come as decoded() gives them.
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
    return reencoded(statement, codec_of(db.info.parameter_status("server_encoding") or "UTF8"))


def _show_all(db: Connection, codec: str) -> None:
    class TextLoader(Loader):
        def load(self, data: Buffer) -> str:
            return decoded(bytes(data), codec)

    class JsonLoader(Loader):
        def load(self, data: Buffer) -> object:
            return json.loads(decoded(bytes(data), codec))

    for type_name in _TEXTS:
        db.adapters.register_loader(type_name, TextLoader)
    for type_name in ("json", "jsonb"):
        db.adapters.register_loader(type_name, JsonLoader)
