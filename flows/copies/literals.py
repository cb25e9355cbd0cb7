"""Whether PostgreSQL takes a text as a value of a type, and as the same value whenever it reads the text."""

from __future__ import annotations

import re

import psycopg
from psycopg import sql

from flows.backup.pinned import encoded
from flows.backup.postgres import Connection
from flows.copies.statements import reason

# As a column takes it: a cast would cut a text that is too long.
_READ = """
SELECT v IS NULL FROM pg_catalog.jsonb_to_record(pg_catalog.jsonb_build_object('v', {value}::text)) AS t (v {type})
"""
# Nothing else may stand in a statement that is made of the text of a manifest, which anybody may have written.
_BUILT_IN = re.compile(r"[a-z][a-z0-9_ ]*(?:\([\d,-]+\))?[a-z ]*(?:\[\])*")
_OF_TIME = re.compile(r"(?:date|time|timestamp|(?:date|ts|tstz)(?:multi)?range)\b.*")
_CHANGING = re.compile(r"(?<![a-z])(?:now|today|tomorrow|yesterday)(?![a-z])", re.IGNORECASE)


def refusal_of_literal(db: Connection, value: str, type_name: str, *, own_types: bool) -> str | None:
    """Why a column of this type does not take the text as its value, behind `the column`; None where it does.

    `db` has the settings of pin_settings(). Types that are not PostgreSQL's own are left out without `own_types`: what
    reads their values may be code of the database.
    """
    if _OF_TIME.fullmatch(type_name) and (word := _CHANGING.search(value)):
        return f"is of type {type_name}, and {word[0]!r} means another time whenever it is read: write the time itself"
    if not own_types and not _BUILT_IN.fullmatch(type_name):
        return None
    query = sql.SQL(_READ).format(value=sql.Literal(value), type=sql.SQL(type_name))
    try:
        with db.transaction(force_rollback=True):
            db.execute(encoded(db, query.as_string(None)))
    except psycopg.OperationalError:
        raise
    except psycopg.Error as error:
        return f"is of type {type_name}, which does not take {value!r}: {reason(error)}"
    return None
