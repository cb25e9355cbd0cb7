"""What becomes of due times that could not begin in time: the catch-up rule of a schedule, as people write it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from opsdb.amounts import read_length

GRACE = timedelta(minutes=5)
"""How late a tick may begin and still be in time: a lane may be full, a room may be restarting."""
LONGEST = timedelta(days=30)
_ONCE = "once within "
_RIGHT = "expected skip, all, or `once within 2h` (a number and m, h or d)"


class Mode(StrEnum):
    """Which of the missed due times are executed."""

    SKIP = "skip"
    ONCE = "once"
    """The newest, while it is not too old."""
    ALL = "all"


@dataclass(frozen=True, slots=True)
class CatchUp:
    """A catch-up rule. `within` is how old the newest missed due time may be, for ONCE."""

    mode: Mode
    within: timedelta = timedelta(0)

    def __str__(self) -> str:
        """As `read_catch_up` reads it, and as the ops database holds it."""
        return f"once within {length_words(self.within)}" if self.mode is Mode.ONCE else self.mode.value


DEFAULT = CatchUp(Mode.ONCE, timedelta(hours=2))
"""The rule of a schedule of which nobody said anything, one made in the Prefect UI for instance."""


def read_catch_up(text: str) -> CatchUp:
    """A rule from its words. Raises ValueError that says what would be right."""
    words = " ".join(text.lower().split())
    if words in (Mode.SKIP, Mode.ALL):
        return CatchUp(Mode(words))
    within = read_length(words.removeprefix(_ONCE)) if words.startswith(_ONCE) else None
    if within is None or within.seconds % 60:
        raise ValueError(f"{text[:60]!r} is not a catch-up rule: {_RIGHT}")
    if not GRACE <= within <= LONGEST:
        raise ValueError(f"{text[:60]!r}: expected a time between 5m and 30d")
    return CatchUp(Mode.ONCE, within)


def length_words(length: timedelta) -> str:
    """A length of whole minutes in the largest unit that fits: 90m, 2h, 1d."""
    minutes = int(length.total_seconds() // 60)
    if minutes % 1440 == 0:
        return f"{minutes // 1440}d"
    return f"{minutes // 60}h" if minutes % 60 == 0 else f"{minutes}m"
