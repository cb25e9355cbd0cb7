"""What is lost when an upgrade is taken back: the rows that were written since, and the question that names them."""

from __future__ import annotations

from datetime import UTC

from flows.backup.database import Database
from flows.backup.manifest import Contents
from flows.engine.active_run import current_run
from flows.engine.step import action
from flows.odoo import aside
from flows.odoo.rows_since import Since, count_rows, rows_since
from flows.odoo.take_back import Phase, TakeBack
from opsdb.runs.lookup import short_id


def count_since(found: TakeBack) -> Since | None:
    """The rows that were written since the upgrade began; None where no rows are taken out of the live database."""
    before, kept, url = found.before, found.before.protection, current_run().settings.odoo_url
    if kept is None or not before.begun or found.phase is not Phase.NOT_YET:
        return None
    since = f"{kept.made_at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
    live = Database(before.place.database, url)
    if found.ready is not None:
        contents = found.ready.manifest.contents or Contents.empty()
        return rows_since(live, contents.tables, since, unknown=contents.uncounted)
    copied = count_rows(Database(aside.name_before(before.upgrade), url))
    return rows_since(live, copied.rows, since, unknown=copied.left)


def count_written(name: str, found: TakeBack, *, about: str, words: str, preflight: bool = False) -> Since | None:
    """Count them as a step and an event, which begins with the words."""

    def count() -> dict[str, list[str]] | None:
        since = count_since(found)
        return {"changed": since.changed, "uncounted": since.uncounted} if since else None

    if preflight:
        value = action(name, count, about=about, preflight=True)
    else:
        value = action(name, count, about=about, must_run_again=True)
    since = Since(**value) if value else None
    if since:
        current_run().event(f"{words}: {since.words}", level="warning", tables=since.changed)
    return since


def question(found: TakeBack) -> str:
    """What a person is asked before an upgrade is taken back: it is the same when the run resumes."""
    before, place = found.before, found.before.place
    code = f"{place.repo_dir} to {place.commit[:12]}"
    if not before.begun or before.protection is None:
        return f"take {code} back? No module of {place.database} was upgraded (attempt {before.attempt})"
    others = f" This undoes the upgrades of run {', '.join(before.since)} as well." if before.since else ""
    upgrade = f"attempt {before.attempt} of run {short_id(before.upgrade)}"
    return f"take {place.database} back to {before.protection.words}, and {code} ({upgrade})?{others}"


def consequences(found: TakeBack, since: Since | None) -> str:
    """What stands behind the question, and may be more by the time of the answer: people keep working."""
    broken = aside.name_broken(found.before.upgrade)
    lost = [f"Written since then, and kept in {broken} alone: {since.words}."] if since else []
    return " ".join([*lost, *([f"Note: {found.beneath}."] if found.beneath else [])])
