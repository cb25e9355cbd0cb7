"""What the record proves of a room that is being set up: that a thing was done here at least once."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, text

from opsdb.alerts.episodes import Rule
from opsdb.proven import GOOD_BACKUP, SUCCEEDED

_LAST_SUCCESS = f"""
SELECT id, kind, finished_at AS at FROM ops.runs
WHERE {SUCCEEDED} AND finished_at IS NOT NULL
  AND (CAST(:kinds AS text[]) IS NULL OR kind = ANY(CAST(:kinds AS text[])))
  AND (NOT :scheduled OR tick IS NOT NULL)
ORDER BY finished_at DESC LIMIT 1
"""  # noqa: S608 - a constant
_LAST_COPY = f"""
SELECT id, kind, finished_at AS at FROM ops.runs
WHERE {GOOD_BACKUP} AND finished_at IS NOT NULL AND result -> 'target' ->> 'url' <> ''
ORDER BY finished_at DESC LIMIT 1
"""  # noqa: S608 - a constant
_LAST_TOLD = """
SELECT max(told_at) FROM ops.alert_episodes WHERE rule = ANY(:rules)
"""


@dataclass(frozen=True, kw_only=True)
class Success:
    """A run that did what it is for."""

    id: UUID
    kind: str
    at: datetime


def last_success(db: Connection, *kinds: str, scheduled: bool = False) -> Success | None:
    """The newest run of one of the kinds, or of any, whose own process said that it succeeded; of a schedule if asked.

    None when there is none.
    """
    found = db.execute(text(_LAST_SUCCESS), {"kinds": list(kinds) or None, "scheduled": scheduled}).one_or_none()
    return None if found is None else Success(**found._mapping)


def last_copy_made(db: Connection) -> Success | None:
    """The newest verified backup of which a copy was made elsewhere."""
    found = db.execute(text(_LAST_COPY)).one_or_none()
    return None if found is None else Success(**found._mapping)


def last_told(db: Connection, rules: Collection[Rule]) -> datetime | None:
    """When operators last heard that one of the rules held."""
    at: datetime | None = db.scalar(text(_LAST_TOLD), {"rules": [rule.value for rule in rules]})
    return at
