"""What a program that the room starts inherits: enough to find its way, and nothing of the room's own."""

from __future__ import annotations

import os
import re

INHERITED = frozenset({"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ", "TMPDIR"})  # and LC_*


def inherited() -> dict[str, str]:
    """The part of this process's environment that is passed on: not the secrets by which the room reaches its own
    parts."""
    return {name: value for name, value in os.environ.items() if name in INHERITED or re.match(r"LC_[A-Z]+\Z", name)}
