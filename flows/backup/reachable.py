"""Whether a night's databases can be reached before it begins."""

from __future__ import annotations

from flows.backup.database import Database
from flows.backup.night import Window
from flows.engine.active_run import current_run
from opsdb.errors import PreflightError


def find_unreachable(databases: list[str], window: Window) -> str | None:
    """Which databases cannot be reached, a line each, and what a run does about them; None when all can."""
    wrong = []
    for database in databases:
        try:
            Database(database, current_run().settings.odoo_url).connect().close()
        except PreflightError as error:
            wrong.append(f"{database}: {error}")
    if not wrong:
        return None
    allowed = int(window.allowed.total_seconds() // 60)
    others = "backs up the others, and " if len(wrong) < len(databases) else ""
    lines = [
        f"{len(wrong)} of {len(databases)} databases cannot be reached now:",
        *wrong,
        f"A run {others}tries these again for {allowed} minutes. It fails if they stay away",
    ]
    return "\n".join(lines)
