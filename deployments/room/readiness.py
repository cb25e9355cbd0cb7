"""Whether a part of the room does its work. Each check answers within about a second and never raises."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import httpx
import psycopg
from sqlalchemy.exc import DBAPIError

from opsdb.database import connect
from opsdb.listener import UntrustedListenerError, check_listener
from opsdb.room_locks import read_hindrances
from opsdb.settings import Settings
from opsdb.watch import Mark, seconds_since

SYNC_SECONDS = 10.0
ALERTER_SECONDS = 60.0
"""Within which an alerter looks at the rules a dozen times; the same as in exporter/rules/alerting.yml."""
MARKS: Mapping[str, Mapping[Mark, float]] = {
    "alerter": {Mark.ALERTER: ALERTER_SECONDS},
    "sync": {Mark.SYNC: SYNC_SECONDS, Mark.SWEEPER: 60.0, Mark.TOTALS: 60.0},
}
"""How old the marks of a part that works may be, in seconds."""
WORK = {
    Mark.ALERTER: "looked at the rules",
    Mark.SYNC: "recorded what Prefect knows",
    Mark.SWEEPER: "looked for lost runs",
    Mark.TOTALS: "added up what was counted",
}
OPTIONS = "-c statement_timeout=1000 -c search_path=pg_catalog"
FRESH = """
SELECT bool_and(coalesce(mark.updated_at > clock_timestamp() - make_interval(secs => wanted.seconds), false))
FROM unnest(%s::text[], %s::float8[]) AS wanted (name, seconds) LEFT JOIN ops.sync_marks mark USING (name)
"""


def postgres_answers(url: str) -> bool:
    """Whether the server lets us in."""
    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.Error:
        return False
    return True


def sync_is_current(url: str) -> bool:
    """Whether each of the works of `ops sync` left its mark lately."""
    return _marks_are_fresh(url, MARKS["sync"])


def alerter_works(url: str, *, since: datetime | None = None) -> bool:
    """Whether an alerter looked at the rules within the last 60 s, and after `since`."""
    seconds = ALERTER_SECONDS if since is None else (datetime.now(UTC) - since).total_seconds()
    return _marks_are_fresh(url, {Mark.ALERTER: min(ALERTER_SECONDS, seconds)})


def _marks_are_fresh(url: str, limits: Mapping[Mark, float]) -> bool:
    """Whether all of the marks were left within their limits in seconds, by the database's clock."""
    try:
        with psycopg.connect(url, connect_timeout=2, options=OPTIONS) as db:
            row = db.execute(FRESH, [[mark.value for mark in limits], list(limits.values())]).fetchone()
    except psycopg.Error:
        return False
    return row is not None and bool(row[0])


@dataclass(frozen=True)
class Silence:
    """Why a part is not ready: a clause that follows the part's name, and what to do."""

    found: str
    advice: str


def explain_silence(settings: Settings, part: str) -> Silence | None:
    """What a part has not done for too long, and who holds up its work.

    None when it works, when it is a part that leaves no marks, and when the database does not answer.
    """
    limits = MARKS.get(part)
    if limits is None:
        return None
    engine = connect(settings, application="check", statement_seconds=1)
    try:
        with engine.connect() as db:
            ages = {mark: seconds_since(db, mark) for mark in limits}
            hindrances = [one for one in read_hindrances(db) if one.part == part]
    except DBAPIError:
        return None
    finally:
        engine.dispose()
    late = {mark: age for mark, age in ages.items() if age is None or age > limits[mark]}
    if not late:
        return None
    works = [
        f"has never {WORK[mark]}" if age is None else f"has not {WORK[mark]} for {age:.0f} s"
        for mark, age in late.items()
    ]
    held = [f"{one.holder} holds {one.what}" for one in hindrances]
    ending = " ".join(f"SELECT pg_terminate_backend({pid});" for pid in {one.holder.pid: None for one in hindrances})
    advice = f"let that session end, or end it: {ending}" if held else "start the room; its log says what it waits for"
    return Silence("; ".join([" and ".join(works), *held]), advice)


def exporter_is_ready(url: str) -> bool:
    """Whether the metrics can be read, say that they are complete, and are not another user's."""
    where = httpx.URL(url)
    try:
        check_listener(where.port or 80, address=where.host)
    except UntrustedListenerError:
        return False
    try:  # the certificate need not be made for the address by which this host knows itself
        with httpx.Client(verify=False, timeout=1.5, trust_env=False) as http:  # noqa: S501
            return http.get(f"{url}/-/ready").status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False
