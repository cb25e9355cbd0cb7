"""What alerts say: what happened, to what, what the room does next, what to do. Pure: the same report, the same text.

The first lines of an alert about a run are those that the user asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from exporter.alerting.links import Links
from exporter.alerting.markup import LONGEST, in_title, known, quoted, without_credentials
from exporter.alerting.wordings import FAILED_ADVICE, TRIED_AGAIN_ADVICE, WORDINGS, Wording, filled_in
from opsdb.alerts.episodes import ROOM, Rule, Severity
from opsdb.alerts.outbox import Level, Message
from opsdb.alerts.report import RESOLVED_BY, Report, RunNow, Subject
from opsdb.amounts import seconds
from opsdb.runs.lookup import short_id
from opsdb.states import RunStatus

LONGEST_ERROR = 300
LONGEST_QUESTION = 500
SHORT = 60
"""Characters of a value in a line of a list."""
OF_ATTEMPT = ("silent_seconds", "deadline_at", "waiting_since", "pids")
"""The facts that are about one attempt."""
KINDS = 5
"""Sorts of runs that are named."""
DATABASES = 5
"""Databases that are named."""
ICONS = {Level.CRITICAL: "🚨", Level.FAILURE: "🔴", Level.WARNING: "⚠️", Level.INFO: "⚪", Level.SUCCESS: "✅"}


def render(report: Report, *, links: Links, outlook: str = "") -> Message:
    """The message, well below Mattermost's 16,383 characters. `outlook` says what the room does next about the first
    run, in Markdown."""
    wording = WORDINGS[report.incident.rule]
    level, title = _level(report), _title(report, wording)
    since = f" (since {_moment(report.incident.opened_at)})" if report.event == "repeat" else ""
    head = f"{ICONS[level]} **{title}**{_about(report, quoted)}{since}"
    plain = f"{ICONS[level]} {title}{_about(report, in_title)}{since}"
    parts = (
        [head],
        _first(report, links, outlook),
        _others(report, links),
        _foot(report, wording, level),
    )
    return Message(level=level, title=plain, body="\n".join(line for part in parts for line in part))


def _level(report: Report) -> Level:
    """How bad it is. The end of an alert is green only when nothing is left that failed, or may yet fail."""
    rule = report.incident.rule
    critical = rule.severity is Severity.CRITICAL
    if not _ends(report):
        return Level.CRITICAL if critical else Level.WARNING
    if report.statuses.get(RunStatus.FAILED) and rule is not Rule.LEFTOVERS:
        return Level.CRITICAL if critical else Level.FAILURE
    return Level.SUCCESS if report.statuses.keys() <= {RunStatus.SUCCEEDED} else Level.INFO


def _ends(report: Report) -> bool:
    """Whether it says how something ended."""
    return report.event in ("ended", "resolved")


def _title(report: Report, wording: Wording) -> str:
    if not _ends(report):
        return wording.title
    ends = {Level.SUCCESS: "Resolved", Level.INFO: "Over"}
    if report.subjects[0].facts.get("answer"):
        ends[Level.INFO] = "Answered"
    return f"{ends.get(_level(report), 'Ended In Failure')}: {wording.title}"


def _about(report: Report, shown: Callable[[str], str]) -> str:
    """What the message is about, behind its title."""
    first = report.subjects[0]
    if report.count > 1:
        return ": " + ", ".join([_counted(report), *_some(report.databases, shown)])
    name = first.name if first.run_id is None else first.run and first.run.name
    return f": {shown(name)}" if name and report.incident.rule is not Rule.SYNC_BEHIND else ""


def _counted(report: Report) -> str:
    where = "" if report.incident.lane == ROOM else f" in lane {report.incident.lane}"
    return f"{report.count:,} {WORDINGS[report.incident.rule].noun}{where}"


def _some(names: Sequence[str], shown: Callable[[str], str]) -> list[str]:
    return [*map(shown, names[:DATABASES]), *(["and more"] if len(names) > DATABASES else [])]


def _first(report: Report, links: Links, outlook: str) -> list[str]:
    """The first subject, with all that is known of it."""
    subject = report.subjects[0]
    lines = [f"- {label}: {value}" for label, value in _fields(report, subject).items()]
    if outlook:
        lines.append(f"- Next: {outlook}")
    if subject.run_id is not None:
        lines.append(f"- {links.run('Open the run', subject.run_id)}{links.limits}")
    return lines


def _others(report: Report, links: Links) -> list[str]:
    """How many there are, and the others in a line each."""
    if report.count == 1:
        return []
    kinds = [f"{count} {quoted(kind, longest=SHORT)}" for kind, count in list(report.kinds.items())[:KINDS]]
    if (more := len(report.kinds) - KINDS) > 0:
        kinds.append(f"{more} other kinds")
    head = f"**{_counted(report)}**" + (f": {', '.join(kinds)}" if kinds else "")
    if report.databases:
        head += f"; databases {', '.join(_some(report.databases, quoted))}"
    lines = ["", head]
    if _ends(report) and report.statuses:
        lines.append("Became: " + ", ".join(f"{count:,} {status}" for status, count in report.statuses.items()))
    lines += ["", *(_line(report, subject, links) for subject in report.subjects[1:])]
    if hidden := report.count - len(report.subjects):
        lines.append(f"- +{hidden:,} more: {links.runs('all runs')}, or `ops alerts`")
    return lines


def _foot(report: Report, wording: Wording, level: Level) -> list[str]:
    incident = report.incident
    lane = "the room" if incident.lane == ROOM else f"lane {incident.lane}"
    sign = f"Alert {incident.id}, {incident.rule.severity}, {lane}, since {_moment(incident.opened_at)}"
    over, first = _ends(report), report.subjects[0]
    advice = wording.advice
    if over:
        advice = FAILED_ADVICE if level in (Level.CRITICAL, Level.FAILURE) else ""
    elif incident.rule.final and _is_tried_again(first):
        advice = TRIED_AGAIN_ADVICE
    advice = filled_in(advice, run=short_id(first.run_id) if first.run_id else "", name=first.name)
    lines = ["", f"**What to do:** {advice}"] if advice else []
    return [
        *lines,
        "",
        sign if report.event == "resolved" else f"{sign}. `ops alerts ack {incident.id}` ends its reminders.",
    ]


def _fields(report: Report, subject: Subject) -> dict[str, str]:
    """What is known of the first subject, trusted or in a code span. A run's first three are the seed's."""
    facts, run = subject.facts, subject.run
    fields = {}
    if run is not None:
        worker = run.worker if _is_tried_again(subject) else facts.get("worker")
        fields = {"Run ID": known(subject.run_id), "Kind": known(subject.kind), "Worker": known(worker)}
        fields |= {"Lane": known(report.incident.lane), "Session": known(facts.get("session"))}
        fields |= _of_run(report, subject, run)
    if _is_tried_again(subject):
        facts = {name: value for name, value in facts.items() if name not in OF_ATTEMPT}
    return {label: value for label, value in (*fields.items(), *_special(facts).items()) if value}


def _is_tried_again(subject: Subject) -> bool:
    """Whether its run is in another attempt than the one that the alert began with."""
    return subject.run is not None and subject.run.attempt != subject.facts.get("attempt", subject.run.attempt)


def _of_run(report: Report, subject: Subject, run: RunNow) -> dict[str, str]:
    """How the run stands now."""
    failed = run.status == RunStatus.FAILED
    rule, over, tried = report.incident.rule, _ends(report), _is_tried_again(subject)
    asks = rule is Rule.APPROVAL and not run.finished_at
    told = not asks and RESOLVED_BY not in subject.facts and (over or tried or (failed and rule is not Rule.FAILED))
    status = known(run.status) + (f", attempt {run.attempt}" if tried else "")
    lasted = ""
    if run.started_at and run.finished_at and run.finished_at > run.started_at:
        lasted = f", after {seconds((run.finished_at - run.started_at).total_seconds())}"
    ended = f"{_moment(run.finished_at)}{lasted}" if run.finished_at else ""
    return {
        "Database": known(run.database),
        "Step": "" if asks else known(run.step),
        "Error": _error(run.error),
        "Became" if over else "Status": status if told else "",
        "Started": _moment(run.started_at),
        "Failed" if failed else "Ended": ended,
    }


def _special(facts: Mapping[str, Any]) -> dict[str, str]:
    """The facts that only some rules have."""
    silent, lanes, pids = facts.get("silent_seconds"), facts.get("lanes"), facts.get("pids")
    missing = {"prefect": "the Prefect server does not answer", "sync": "`ops sync` does not run"}
    good = _success(facts)
    verified = good and "database" in facts
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
        "Cause": _error(facts.get("error") if "deployment" in facts else None),
        "Processes": known(", ".join(map(str, pids))) if isinstance(pids, list) else "",
        "Database": known(facts.get("database")),
        "Last verified": (_moment(facts["verified_at"]) or "never") if "verified_at" in facts and not verified else "",
        "Ended by": "an operator, with `ops alerts forget`" if facts.get("forgotten_at") else "",
        "Last error": "" if verified else _error(facts.get("last_error")),
        "Resolved by": good,
        "Host's worker": known(facts.get("worker")) if isinstance(lanes, list) else "",
        "Lanes": known(", ".join(map(str, lanes))) if isinstance(lanes, list) else "",
        "Last sign of life": _moment(facts.get("heartbeat_at") or facts.get("heard_at")),
        "What is down": missing.get(str(facts.get("missing")), ""),
    }


def _success(facts: Mapping[str, Any]) -> str:
    """The run that made it good, where one did."""
    run = facts.get(RESOLVED_BY)
    if not isinstance(run, dict):
        return ""
    parts = [known(run.get("name")), known(str(run.get("id") or "")[-8:])]
    at = _moment(run.get("at"))
    return " ".join(part for part in parts if part) + (f", succeeded {at}" if at else "")


def _line(report: Report, subject: Subject, links: Links) -> str:
    facts, run = subject.facts, subject.run
    worker = known(facts.get("worker"), longest=SHORT)
    if run is None or subject.run_id is None:
        return f"- {worker or quoted(subject.name, longest=SHORT)}"
    over = _ends(report) or run.finished_at
    parts = [
        known(run.name or subject.kind, longest=SHORT),
        known(run.status) if over else "",
        _moment(run.finished_at),
    ]
    parts += [
        f"in {known(run.step, longest=SHORT)}:" if run.step and run.error else "",
        _error(run.error, longest=LONGEST),
    ]
    parts += [known(facts.get(fact), longest=SHORT) for fact in ("question", "answer")]
    good = _success(facts)
    parts += [f"resolved by {good}," if good else "", f"on {worker}" if worker else ""]
    return "- " + " ".join(filter(None, [*parts, links.run(short_id(subject.run_id), subject.run_id)]))


def _error(value: object, *, longest: int = LONGEST_ERROR) -> str:
    """The first line of an error."""
    line = next((line for line in str(value or "").splitlines() if known(line)), None)
    return known(line and without_credentials(line), longest=longest)


def _moment(value: object) -> str:
    """A time in UTC, of a datetime or of one that became JSON."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return ""
    return f"{value:%Y-%m-%d %H:%M:%S} UTC" if isinstance(value, datetime) else ""


def outage_begins(since: datetime) -> Message:
    """The database does not answer: said from memory, since nothing can be read or kept."""
    return _plain(
        Level.CRITICAL,
        "The Ops Database Does Not Answer",
        f"- Since: {_moment(since)}",
        "",
        "**What to do:** `ops status`, then PostgreSQL's log, its disk and its host. Runs continue and their records "
        "catch up; nothing is ended meanwhile, and no other alert comes before it is back.",
    )


def outage_ends(since: datetime) -> Message:
    """It answers again."""
    return _plain(
        Level.SUCCESS,
        "Resolved: The Ops Database Does Not Answer",
        f"- It was away since {_moment(since)} and answers again.",
    )


def trial(destination: str) -> Message:
    """What `ops alerts test` sends."""
    return _plain(
        Level.INFO,
        "Test of the Ops Control Room's Alerts",
        f"- Destination: {quoted(destination)}",
        "- Nothing happened: somebody typed `ops alerts test`.",
    )


def _plain(level: Level, title: str, *lines: str) -> Message:
    return Message(
        level=level, title=f"{ICONS[level]} {title}", body="\n".join([f"{ICONS[level]} **{title}**", *lines])
    )
