"""What `ops doctor` looks at in the record: whether what is old goes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import func, select

from blocks.check import Check
from cli.text import clock
from deployments.prune.output_files import count_old_output
from opsdb.database import clock_ahead
from opsdb.retention.kept import read_kept_runs
from opsdb.retention.old_runs import count_old_runs
from opsdb.retention.prunes import OVERDUE, LastPrune, is_switched_on, read_last
from opsdb.runs.lookup import reading
from opsdb.settings import Settings

SUBJECT = "what is old"


@dataclass(frozen=True, slots=True, kw_only=True)
class Old:
    """What `ops db prune` would delete, roughly."""

    runs: int
    outputs: int

    def words(self, settings: Settings) -> str:
        """For people."""
        days = f"{self.runs:,} runs ended over {settings.retention_days} days ago"
        return f"{days}, and the output of {self.outputs:,} is over {settings.log_days} days old"


def check_old(settings: Settings) -> Iterator[Check]:
    """Look whether the room deletes what is old, and what would go where it does not."""
    with reading(settings) as db:
        on, last = is_switched_on(db, settings), read_last(db)
        if on:
            yield judge_pruning(last)
            return
        now = db.execute(select(func.clock_timestamp())).scalar_one()
        cutoff = now - timedelta(days=settings.retention_days)
        runs = count_old_runs(db, cutoff=cutoff, kept=read_kept_runs(db, cutoff=cutoff))
        outputs = count_old_output(settings, now=now - clock_ahead(db))
    yield judge_old(settings, Old(runs=runs, outputs=outputs))


def judge_pruning(last: LastPrune | None) -> Check:
    """Whether the daily pass comes to its end."""
    if last is None:
        return Check(SUBJECT, "is deleted once a day; the first pass has not ended yet")
    if last.age > OVERDUE:
        found = f"is to be deleted once a day, and the room's last pass ended at {clock(last.finished_at)}"
        return Check(SUBJECT, found, "the end of OPS_HOME/log/sync.log says why; `ops db prune` does it now")
    runs = last.deleted.get("record: runs", {}).get("count", 0)
    return Check(SUBJECT, f"is deleted once a day, last at {clock(last.finished_at)}: {runs:,} runs")


def judge_old(settings: Settings, old: Old) -> Check:
    """Whether somebody has to decide: the room deletes nothing by itself, and OPS_PRUNE is not set."""
    found = old.words(settings)
    if settings.prune is False or not (old.runs or old.outputs):
        return Check(SUBJECT, f"stays (OPS_PRUNE), in Prefect too: {found}")
    advice = (
        "`ops db prune --dry-run` lists what would go; OPS_PRUNE=true deletes it once a day, OPS_PRUNE=false keeps it"
    )
    return Check(SUBJECT, f"stays, and Prefect deletes no runs by itself any more: {found}", advice)
