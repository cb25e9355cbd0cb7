"""Time zones by their names, as the IANA database has them."""

from __future__ import annotations

import difflib
from zoneinfo import ZoneInfo, available_timezones


def read_zone(name: str) -> ZoneInfo:
    """The zone of that name. Raises ValueError that names the nearest one."""
    zones = available_timezones()
    if name in zones:
        return ZoneInfo(name)
    by_lower = {zone.lower(): zone for zone in zones} | {zone.rpartition("/")[2].lower(): zone for zone in zones}
    close = difflib.get_close_matches(name.lower().replace(" ", "_"), by_lower, n=1, cutoff=0.5)
    meant = f" Did you mean {by_lower[close[0]]}?" if close else " Expected a name as in Europe/Rome"
    raise ValueError(f"{name[:60]!r} is not a time zone.{meant}")
