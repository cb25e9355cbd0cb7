"""How a run process says by its exit code that others tell how its run ended."""

from __future__ import annotations

import signal

FENCED = 75
"""The run was taken from its process; whoever took it says how it ended."""
CUT_OFF = 76
"""The process stopped by itself: its run may be repeated, and may be given to another any moment."""

DELETED = 77
"""Prefect did not have the run any more when the process was to tell it a state; its worker records how it ended."""


def exit_words(code: int) -> str:
    """An exit code in words; a negative one is minus the number of the signal that ended the process."""
    if code == CUT_OFF:
        return "it stopped by itself, since the ops database was silent and its run may be given to another"
    if code == DELETED:
        return "the run was deleted in Prefect"
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
