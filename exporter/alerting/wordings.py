"""How each rule speaks."""

from __future__ import annotations

import re
from dataclasses import dataclass

from opsdb.alerts.episodes import Rule


@dataclass(frozen=True)
class Wording:
    """How a rule speaks. `advice` may hold `{run}`, the short id of the first run, and `{name}`, the first subject."""

    title: str
    noun: str
    advice: str


WORDINGS = {
    Rule.STUCK: Wording(
        "Stuck Run Detected",
        "runs",
        "Its process died or fell silent. The room kills what is left of the run and fails it. See whether the "
        "worker's host is well, then `ops show {run}` for what was done, before you start it again.",
    ),
    Rule.OVERDUE: Wording(
        "Run Past Its Deadline",
        "runs",
        "The room stops the run and fails it. `ops logs {run}` shows where it hung; if it only needs longer, give its "
        "runbook more time.",
    ),
    Rule.CLAIM: Wording(
        "Claimed Run Did Not Start",
        "runs",
        "A worker took the run and did not begin; the room puts it back where that is safe. Look at that worker's log "
        "and at the load of its host.",
    ),
    Rule.QUEUED: Wording(
        "Run Queued Too Long",
        "runs",
        "`ops show {run}` says what it waits for: a slot, a worker, or something that is paused or limited in Prefect, "
        "with the command that takes it away.",
    ),
    Rule.FAILED: Wording(
        "Run Failed",
        "runs",
        "`ops logs {run}` shows the output of each step. Once the cause is gone, `ops retry {run}` starts it again. "
        "This ends with the next success of its kind for the same database, and after a day without one.",
    ),
    Rule.APPROVAL: Wording(
        "Run Waits For Approval",
        "runs",
        "`ops approve {run}`, or Resume on the run's page in the Prefect UI, says yes; `ops cancel {run}` says no. "
        "`ops show {run}` shows what it did so far. Without an answer in time it fails.",
    ),
    Rule.BACKUP: Wording(
        "No Verified Backup",
        "databases",
        "Start one with `ops run odoo_db_backup -p odoo_db={name} --wait`. If that fails, its error says why; if it "
        "works, find out why the schedule did not start it. This lasts until one is verified; "
        "`ops alerts forget {name}` ends it for a database that is gone for good.",
    ),
    Rule.LEFTOVERS: Wording(
        "Processes Left Behind",
        "runs",
        "Nobody confirmed that the run's processes are gone: look for them on its worker's host by OPS_RUN_ID in their "
        "environment, and do not start the run again before they are.",
    ),
    Rule.WORKER_LOST: Wording(
        "Worker Lost",
        "hosts",
        "Its lanes start no run there. See whether the host is up and `ops worker` runs, else start it; a host that "
        "was retired is forgotten after a day.",
    ),
    Rule.SYNC_BEHIND: Wording(
        "The Room Is Blind",
        "parts",
        "What runs do is not recorded meanwhile, and none is ended; running ones continue. `ops status` names what is "
        "down, its log in OPS_HOME/log says why. Alerts about single runs wait until it is back.",
    ),
    Rule.SCHEDULE: Wording(
        "Schedule Without Runs",
        "schedules",
        "Nothing starts by this schedule. The room pauses one that never fires: correct or delete it in the "
        "Prefect UI, Deployments. Otherwise `ops doctor` says what to do, and the end of prefect.log in OPS_HOME/log "
        "what became of schedule_deployments.",
    ),
}

FAILED_ADVICE = (
    "`ops show {run}` says what was done and what was not. Once the cause is gone, `ops retry {run}` starts it again."
)
"""What to do about a run that failed in the end."""
TRIED_AGAIN_ADVICE = "Another attempt is running: `ops logs {run} --follow` shows it. This alert ends with it."
"""What to do about a run that died and is tried again."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,62}")


def filled_in(advice: str, *, run: str, name: str) -> str:
    """Advice about this run, by its short id, or about the subject of that name: one that no shell reads otherwise."""
    return advice.replace("{run}", run).replace("{name}", name if _NAME.fullmatch(name) else "NAME")
