"""What alerts say: what happened, to what, and what to do. Pure; the same report gives the same text."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from opsdb.alerts.episodes import ROOM, Rule
from opsdb.alerts.incidents import Report, Subject
from opsdb.web.addresses import run_address, runs_address

LONGEST = 100
LONGEST_ERROR = 200
SHORT = 60
"""Characters of a value in a line of a list."""
LONGEST_QUESTION = 500
KINDS = 5
NOTHING = "`-`"
"""What stands for an empty value."""


@dataclass(frozen=True)
class Wording:
    """How a rule speaks. `todo` may hold `{run}`, the short id of the first run."""

    title: str
    noun: str
    todo: str


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
        "`ops show {run}` tells the step and its error, `ops logs {run}` its output. This ends with the next success "
        "of its kind for the same database, and after a day without one.",
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
        "Start one with `ops run odoo_db_backup -p odoo_db=NAME --wait`. If that fails, its error says why; if it "
        "works, find out why the schedule did not start it. This lasts until one is verified; `ops alerts forget NAME` "
        "ends it for a database that is gone for good.",
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
        "What runs do is not recorded meanwhile, and none is ended; running ones go on. `ops status` tells what is "
        "down, its log in OPS_HOME/log says why. Alerts about single runs wait until it is back.",
    ),
    Rule.SCHEDULE: Wording(
        "Schedule Without Runs",
        "schedules",
        "Nothing starts by this schedule. One that never fires also keeps Prefect from planning those beside it: the "
        "room has paused it, correct or delete it in the Prefect UI, Deployments. Otherwise `ops doctor` says what to "
        "do, and the end of prefect.log in OPS_HOME/log what became of schedule_deployments.",
    ),
}


def render(report: Report, *, ui_url: str) -> str:
    """The message, in Mattermost's Markdown, well below 16,383 characters."""
    wording = WORDINGS[report.incident.rule]
    parts = (_head(report, wording), _rest(report, wording, ui_url), [""], _foot(report, wording), [_sign(report)])
    return "\n".join(line for part in parts for line in part)


def _head(report: Report, wording: Wording) -> list[str]:
    name = report.subjects[0].run_name if report.count == 1 else None
    named = f": {quoted(name)}" if name else ""
    if report.event == "resolved":
        return [f"✅ **Resolved: {wording.title}**{named}"]
    icon = "🚨" if report.incident.rule.severity == "critical" else "⚠️"
    lines = [f"{icon} **{wording.title}**{named}"]
    return lines if report.event == "firing" else [f"{lines[0]} (since {_moment(report.incident.opened_at)})"]


def _rest(report: Report, wording: Wording, ui_url: str) -> list[str]:
    first, *others = report.subjects
    lines = [f"- {label}: {value}" for label, value in _fields(report, first).items()]
    if first.run_id is not None:
        lines.append(f"- [Open the run]({_link(ui_url, first)})")
    if report.count == 1:
        return lines
    kinds = ", ".join(f"{count} {quoted(kind, longest=SHORT)}" for kind, count in list(report.kinds.items())[:KINDS])
    more = f", and {len(report.kinds) - KINDS} other kinds" if len(report.kinds) > KINDS else ""
    where = "" if report.incident.lane == ROOM else f" in lane {report.incident.lane}"
    lines += ["", f"**{report.count:,} {wording.noun}{where}**" + (f": {kinds}{more}" if kinds else "")]
    lines += [_line(subject, ui_url) for subject in others]
    if hidden := report.count - len(report.subjects):
        lines.append(f"- +{hidden:,} more: [all runs]({runs_address(ui_url)}), or `ops alerts`")
    return lines


def _foot(report: Report, wording: Wording) -> list[str]:
    if report.event == "resolved":
        return []
    run_id = report.subjects[0].run_id
    return ["**What to do:** " + wording.todo.replace("{run}", run_id.hex[-8:] if run_id else "")]


def _sign(report: Report) -> str:
    incident = report.incident
    lane = "the room" if incident.lane == ROOM else f"lane {incident.lane}"
    return f"Alert {incident.id}, {incident.rule.severity}, {lane}, since {_moment(incident.opened_at)}"


def _fields(report: Report, subject: Subject) -> dict[str, str]:
    """What is known of the first subject, trusted or in a code span. A run's first three are the seed's."""
    facts = subject.facts
    fields = {}
    if subject.run_id is not None:
        fields = {"Run ID": known(subject.run_id), "Kind": known(subject.kind), "Worker": known(facts.get("worker"))}
        fields |= {"Lane": known(report.incident.lane), "Session": known(facts.get("session"))}
    if report.event == "resolved" and facts.get("became"):
        attempt = facts.get("now_attempt") or facts.get("attempt")
        again = isinstance(attempt, int) and attempt != facts.get("attempt")
        became = known(facts["became"])
        fields["Became"] = became + (f", attempt {attempt}" if became and again else "")
    return {label: value for label, value in (fields | _special(facts)).items() if value}


def _special(facts: Mapping[str, Any]) -> dict[str, str]:
    """The facts that only some rules have."""
    silent, lanes, pids = facts.get("silent_seconds"), facts.get("lanes"), facts.get("pids")
    missing = {"prefect": "the Prefect server does not answer", "sync": "`ops sync` does not run"}
    return {
        "Question": known(facts.get("question"), longest=LONGEST_QUESTION),
        "Answer": known(facts.get("answer"), longest=LONGEST_ERROR),
        "Seconds since the last heartbeat": f"{float(silent):.0f}" if isinstance(silent, int | float) else "",
        "Deadline": _moment(facts.get("deadline_at")),
        "Due since": _moment(facts.get("waiting_since")),
        "Answer wanted until": "" if facts.get("answer") else known(facts.get("until")),
        "Deployment": known(facts.get("deployment")),
        "Schedule": known(facts.get("schedule")),
        "When": known(facts.get("expression")),
        "Error": known(facts.get("error"), longest=LONGEST_ERROR),
        "Processes": known(", ".join(map(str, pids))) if isinstance(pids, list) else "",
        "Database": known(facts.get("database")),
        "Last verified": (_moment(facts["verified_at"]) or "never") if "verified_at" in facts else "",
        "Ended by": "an operator, with `ops alerts forget`" if facts.get("forgotten_at") else "",
        "Last error": known(facts.get("last_error")),
        "Host's worker": known(facts.get("worker")) if isinstance(lanes, list) else "",
        "Lanes": known(", ".join(map(str, lanes))) if isinstance(lanes, list) else "",
        "Last sign of life": _moment(facts.get("heartbeat_at") or facts.get("heard_at")),
        "What is down": missing.get(str(facts.get("missing")), ""),
    }


def _line(subject: Subject, ui_url: str) -> str:
    facts = subject.facts
    worker = known(facts.get("worker"), longest=SHORT)
    if subject.run_id is None:
        return f"- {worker or quoted(subject.name, longest=SHORT)}"
    parts = [f"[{subject.run_id}]({_link(ui_url, subject)})", known(subject.run_name or subject.kind, longest=SHORT)]
    parts += [f"on {worker}" if worker else ""]
    parts += [known(facts.get(fact), longest=SHORT) for fact in ("became", "question", "answer")]
    return "- " + " ".join(filter(None, parts))


def _link(ui_url: str, subject: Subject) -> str:
    return run_address(ui_url, subject.run_id) if subject.run_id else runs_address(ui_url)


def _moment(value: object) -> str:
    """A time in UTC, of a datetime or of one that became JSON."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return ""
    return f"{value:%Y-%m-%d %H:%M:%S} UTC" if isinstance(value, datetime) else ""


def outage_begins(since: datetime) -> str:
    """The database does not answer: told from memory, since nothing can be read or kept."""
    return "\n".join(
        [
            "🚨 **The Ops Database Does Not Answer**",
            f"- Since: {_moment(since)}",
            "",
            "**What to do:** `ops status`, then the log of PostgreSQL, its disk and its host. Running runs go on and "
            "their records catch up; nothing is ended meanwhile, and no other alert comes before it is back.",
        ]
    )


def outage_ends(since: datetime) -> str:
    """It answers again."""
    return f"✅ **Resolved: The Ops Database Does Not Answer**\n- It was away since {_moment(since)} and answers again."


def trial(destination: str) -> str:
    """What `ops alerts test` sends."""
    return "\n".join(
        [
            "🔔 **Test of the Ops Control Room's Alerts**",
            f"- Destination: {quoted(destination)}",
            "- Nothing happened: somebody typed `ops alerts test`.",
        ]
    )


def known(value: object, *, longest: int = LONGEST) -> str:
    """A value as `quoted` gives it; empty for one that is not known, which no message names."""
    span = "" if value is None else quoted(value, longest=longest)
    return "" if span == NOTHING else span


def quoted(value: object, *, longest: int = LONGEST) -> str:
    """A value that somebody else chose, in a code span that it cannot leave: there Mattermost sees no mention or link.

    It is on one line, with at most `longest` characters of it.
    """
    line = "".join(_plain(character) for character in str(value)[: longest * 4])
    line = " ".join(line.split())
    if len(line) > longest:
        line = line[: longest - 1] + "\N{HORIZONTAL ELLIPSIS}"
    if not line:
        return NOTHING
    fence = "`" * (max((len(run) for run in re.findall("`+", line)), default=0) + 1)
    pad = " " if "`" in line else ""
    return f"{fence}{pad}{line}{pad}{fence}"


def _plain(character: str) -> str:
    # controls, what reorders or hides text, surrogates, line and paragraph separators
    category = unicodedata.category(character)
    if category in ("Zl", "Zp") or character in "\t\n\r\v\f\x85":
        return " "
    return "\N{REPLACEMENT CHARACTER}" if category in ("Cc", "Cf", "Cs", "Co", "Cn") else character
