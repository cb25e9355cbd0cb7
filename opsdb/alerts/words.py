"""Words by which operators choose alerts: an unknown one is an error that names the nearest right one.

A word that means nothing would mean silence.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

SHOWN = 50


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`, did you mean 'critical'?` with the nearest known word, whatever its case; empty where none is near."""
    by_lower = {one.lower(): str(one) for one in known}
    close = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return f", did you mean {by_lower[close[0]]!r}?" if close else ""


def one_of_these(word: str, known: Iterable[str], *, what: str) -> str:
    """What is wrong with a word that is not a known one, and which ones are: a fact, then what to do."""
    choices = list(known)
    return f"unknown {what} {word[:SHOWN]!r}{did_you_mean(word, choices)} (choose from {', '.join(choices)})"
