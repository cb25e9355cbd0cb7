"""What was done to a copy, as it is counted, recorded and shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Neutralised:
    """What was done to a copy. `changed` are rows by the statement, where there were any."""

    changed: dict[str, int] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    """Statements that the server refused, with its reason. The check decides what that means."""
    checked: dict[str, int] = field(default_factory=dict)
    """What is left of each danger: nothing, or the copy is not published."""
    not_installed: list[str] = field(default_factory=list)
    """Dangers of modules that are not in this Odoo."""
    removed: int = 0
    """Files that were removed from its filestore."""
    unnamed: set[str] = field(default_factory=set)
    """Files that rows of the backup name and no row of the copy does, such as keys of certificates, as `xx/sha1`."""

    def add(self, title: str, rows: int) -> None:
        """Count rows that a statement has changed."""
        if rows:
            self.changed[title] = self.changed.get(title, 0) + rows

    def told(self, own_files: Mapping[str, str]) -> dict[str, Any]:
        """For the result of a run; `own_files` are a team's, with their sha256."""
        return {
            "rows_changed": self.changed,
            "refused": self.failed,
            "left": self.checked,
            "not_installed": self.not_installed,
            "files_removed": self.removed,
            "own_files": dict(own_files),
        }
