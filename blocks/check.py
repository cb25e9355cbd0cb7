"""What a connection test found."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. No secret stands in it."""

    subject: str
    """What was looked at, as an operator calls it."""
    found: str
    """What was seen, in one line."""
    advice: str = ""
    """What to do about it; empty when all is well."""

    @property
    def ok(self) -> bool:
        """Whether nothing has to be done."""
        return not self.advice
