"""The name that somebody meant who mistyped one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from opsdb.shown import shown


def near_name(name: str, known: Iterable[str], *, alike: float = 0.6) -> str | None:
    """The known name that is most like this one, whatever their case; None when none is `alike`, from 0 to 1."""
    by_lower = {str(one).lower(): str(one) for one in known}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=alike)
    return by_lower[close[0]] if close else None


def did_you_mean(name: str, known: Iterable[str], *, alike: float = 0.6) -> str:
    """` Did you mean odoo_prod?`, safe to show, for the end of a sentence; empty where no known name is near."""
    near = near_name(name, known, alike=alike)
    return f" Did you mean {shown(near)}?" if near else ""
