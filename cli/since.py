"""Since when: a length of time such as 7d, or a date, as options take it."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from opsdb.amounts import read_length
from opsdb.errors import UsageError

_DATE = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d)?")
HELP = "Only those of this long, as in 30m, 12h, 7d, or since a date (UTC), as in 2026-11-23."


def read_since(words: str) -> timedelta | datetime:
    """What `--since` names: a length of time before now, or a time in UTC. Raises UsageError."""
    text = words.strip()
    if (length := read_length(text)) is not None:
        return length
    try:
        if _DATE.fullmatch(text):
            return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError:
        pass
    raise UsageError(
        f"--since {words[:50]!r}: expected a length such as 30m, 12h or 7d, or a date such as 2026-11-23 or "
        "2026-11-23T02:00 (UTC)"
    )
