"""Time zones by their names, as the IANA database has them."""

from __future__ import annotations

from zoneinfo import ZoneInfo, available_timezones

from opsdb.near_names import near_name

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
    near = near_name(name.replace(" ", "_"), by_lower, alike=NEAR)
    meant = f" Did you mean {by_lower[near]}?" if near else " Expected a name as in Europe/Rome"
    raise ValueError(f"{name[:60]!r} is not a time zone.{meant}")
