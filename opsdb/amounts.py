"""Amounts as people say them."""

from __future__ import annotations

import re
from datetime import timedelta

_LENGTH = re.compile(r"(\d{1,5})\s*([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def read_length(text: str) -> timedelta | None:
    """Read a length of time: 30s, 15m, 12h, 7d, 2w. None for any other text."""
    found = _LENGTH.fullmatch(text)
    return timedelta(**{_UNITS[found[2]]: int(found[1])}) if found else None


def seconds(value: float | None) -> str:
    """A duration: 4.2 s, 3 min 05 s, 2 h 10 min."""
    if value is None:
        return ""
    if value < 60:
        return f"{value:.1f} s"
    if value < 3600:
        return f"{int(value // 60)} min {int(value % 60):02d} s"
    return f"{int(value // 3600)} h {int(value % 3600 // 60):02d} min"


def size(value: float | None) -> str:
    """A size in bytes."""
    amount = float(value or 0)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"
