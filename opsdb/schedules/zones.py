"""Time zones by their names, as the IANA database has them."""

from __future__ import annotations

import difflib
from zoneinfo import ZoneInfo, available_timezones

HOST_ZONES = {"localtime", "Factory", "posixrules"}
NEAR = 0.75
"""How much alike a name must be to be what was meant."""


def read_zone(name: str) -> ZoneInfo:
    """The zone of that name. Raises ValueError that names a near one, where there is one.

    `localtime` is refused: it is whatever the host that looks is set to.
    """
    if name in HOST_ZONES:
        raise ValueError(f"{name!r} is what each host is set to. Expected a name as in Europe/Rome")
    zones = available_timezones() - HOST_ZONES
    if name in zones:
        return ZoneInfo(name)
    by_lower = {zone.lower(): zone for zone in zones} | {zone.rpartition("/")[2].lower(): zone for zone in zones}
    close = difflib.get_close_matches(name.lower().replace(" ", "_"), by_lower, n=1, cutoff=NEAR)
    meant = f" Did you mean {by_lower[close[0]]}?" if close else " Expected a name as in Europe/Rome"
    raise ValueError(f"{name[:60]!r} is not a time zone.{meant}")
