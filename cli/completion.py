"""What the shell offers for a word that is being typed: from the ops database, quick, and silent where there is none.

Shells ask for each press of a key: so nothing of SQLAlchemy or Prefect is imported here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from opsdb.runs.named import ABOUT
from opsdb.shown import shown
from opsdb.states import RunStatus

Offers = Callable[[str], list[tuple[str, str]]]

_OFFERED = 50
_KINDS = "SELECT DISTINCT split_part(name, '/', 1) AS word, '' FROM ops.deployed ORDER BY word"
_SCHEDULES = "SELECT DISTINCT name AS word, deployment FROM ops.schedule_plans ORDER BY word"
_SESSIONS = "SELECT name AS word, status FROM ops.sessions ORDER BY created_at DESC LIMIT 200"
_RUNS = """
SELECT right(replace(id::text, '-', ''), 8) AS word, coalesce(name, kind) || ' ' || status FROM ops.runs
ORDER BY created_at DESC LIMIT 50
"""


def complete_lanes(incomplete: str) -> list[tuple[str, str]]:
    """The lanes."""
    return _fitting([(lane, "") for lane in "ABCD"], incomplete.upper())


def complete_statuses(incomplete: str) -> list[tuple[str, str]]:
    """The statuses of runs."""
    return _fitting([(status.value, "") for status in RunStatus], incomplete)


def complete_kinds(incomplete: str) -> list[tuple[str, str]]:
    """The runbooks that are deployed."""
    return _fitting(_rows(_KINDS), incomplete)


def complete_databases(incomplete: str) -> list[tuple[str, str]]:
    """The databases and hosts that the newest runs were about."""
    return _fitting(_rows(ABOUT), incomplete)


def complete_runs(incomplete: str) -> list[tuple[str, str]]:
    """The newest runs, with what each is and how it stands."""
    return _fitting([("last", "the newest run"), *_rows(_RUNS)], incomplete)


def complete_sessions(incomplete: str) -> list[tuple[str, str]]:
    """The newest sessions."""
    return _fitting(_rows(_SESSIONS), incomplete)


def complete_schedules(incomplete: str) -> list[tuple[str, str]]:
    """The schedules."""
    return _fitting(_rows(_SCHEDULES), incomplete)


def _fitting(rows: list[tuple[str, str]], incomplete: str) -> list[tuple[str, str]]:
    words = {shown(word): shown(about) for word, about in rows if word.startswith(incomplete)}
    return list(words.items())[:_OFFERED]


def _rows(query: str) -> list[tuple[str, str]]:
    """What the database says; nothing where it does not answer within a second."""
    try:
        with _database() as db:
            return [(str(word), str(about or "")) for word, about in db.execute(query.encode())]
    except Exception:  # whatever it is: a shell must not show it while somebody types
        return []


@contextmanager
def _database() -> Iterator[Any]:
    import psycopg

    from opsdb.settings import load_with_sources  # without warnings: they would stand in the line that is typed

    options = "-c statement_timeout=1000 -c default_transaction_read_only=on -c role=ops_writer"
    url = load_with_sources().settings.ops_url
    with psycopg.connect(url, connect_timeout=1, application_name="ops completion", options=options) as db:
        yield db
