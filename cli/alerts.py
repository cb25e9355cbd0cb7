"""The commands about alerts: active alerts, test messages, acknowledgements and silences."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Annotated, Any

import typer

from cli.account import account
from cli.columns import Columns
from cli.options import JsonOption, one_of, storable
from cli.text import alert_subject, clock, console, moment, print_json, safe_line, say
from cli.text import show as show_columns
from exporter.alerting.routes import read_orders
from exporter.alerting.wordings import WORDINGS, filled_in
from opsdb.alerts.episodes import Rule
from opsdb.alerts.incidents import acknowledge, end_silence, silence
from opsdb.alerts.read import Figures, read_figures, read_incidents, read_silences, read_undelivered
from opsdb.alerts.rules import forget_database
from opsdb.amounts import read_length
from opsdb.database import writing
from opsdb.errors import OpsError, UsageError
from opsdb.near_names import did_you_mean
from opsdb.runs.lookup import reading
from opsdb.settings import Settings, load_settings

RULES = ", ".join(Rule)
LONGEST = timedelta(days=30)
MOST_ALERTS = 2**63 - 1


def register(app: typer.Typer) -> None:
    """Add the commands."""
    alerts = typer.Typer(
        help="Show what is wrong, since when, and who has taken it; acknowledge, silence, test.",
        invoke_without_command=True,
    )
    alerts.callback()(show)
    alerts.command("test")(test)
    alerts.command("ack")(acknowledge_alert)
    alerts.command("silence")(silence_rule)
    alerts.command("forget")(forget)
    app.add_typer(alerts, name="alerts", rich_help_panel="The room")


def show(
    context: typer.Context,
    *,
    as_json: JsonOption = False,
) -> None:
    """List alerts that last or ended within a day, rules that are silenced, and messages that did not arrive.

    Each alert has the kind and the databases that it is about, and who acknowledged it.

    Example: ops alerts --json
    """
    if context.invoked_subcommand is not None:
        return
    settings = load_settings()
    with reading(settings) as db:
        figures, incidents, undelivered = read_figures(db), read_incidents(db), read_undelivered(db)
        silences = read_silences(db)
    if as_json:
        print_json({"alerts": incidents, "silences": silences, "undelivered": undelivered, **asdict(figures)})
        return
    if incidents:
        show_columns(_incidents(incidents))
        for line in _advice(incidents):
            say(line)
    else:
        say("No active alerts; none resolved in the last 24 h")
    for row in silences:
        say(_silenced(row["rule"], row["until_at"]), style="yellow")
    for row in undelivered:
        end = "given up" if row["dead_at"] else "waits"
        status = f", HTTP {row['http_status']}" if row["http_status"] else ""
        reason = (row["reason"] or "not tried yet").replace("_", " ")
        line = f"alert {row['incident_id']}: {row['event']} message to {row['destination']} {end}: {reason}{status}"
        say(line, style="bold red" if row["dead_at"] else "yellow")
    for line in [*_remarks(settings, figures), *_orders_remarks(settings)]:
        say(line, style="yellow")


def test() -> None:
    """Send a test message to every address of OPS_ALERT_URLS, now, and say what became of it.

    Exit code 2 when one did not take it.
    """
    from exporter.alerting.authorities import trusting
    from exporter.alerting.destinations import reach
    from exporter.alerting.messages import trial

    settings = load_settings()
    destinations = reach(settings, read_orders(settings).routes)
    if not destinations:
        raise UsageError("OPS_ALERT_URLS is not set. Hint: give it an Apprise address, see docs/alerts.md")
    failed = 0
    with trusting(settings):
        for destination in destinations:
            failure = destination.send(trial(destination.name))
            failed += failure is not None
            status = f", HTTP {failure.http_status}" if failure and failure.http_status else ""
            said = "delivered" if failure is None else f"not delivered: {failure.reason.replace('_', ' ')}{status}"
            console.print(f"{destination.name}: {said}", markup=False)
    if failed:
        raise OpsError(
            f"{failed} of {len(destinations)} did not take the test message: see docs/alerts-reference.md, Delivery"
        )


def acknowledge_alert(
    alert: Annotated[
        str,
        typer.Argument(metavar="ALERT", help="Its number, as messages and `ops alerts` show it.", show_default=False),
    ],
) -> None:
    """Take an alert: stop reminders of what was reported so far.

    What joins it is reported, and so is its end. Everybody sees in `ops alerts` who has it.

    Example: ops alerts ack 12
    """
    number = _number(alert)
    with writing(load_settings(), application="cli") as db:
        before = acknowledge(db, number, account())
    had = f"; {before} had it before" if before and before != account() else ""
    console.print(f"alert {number} acknowledged by {account()}: no more reminders of it{had}", markup=False)


def silence_rule(
    rule: Annotated[str, typer.Argument(metavar="RULE", help=f"One of {RULES}.", show_default=False)],
    *,
    length: Annotated[
        str, typer.Option("--for", metavar="LENGTH", help="As in 30m, 2h or 1d, at most 30d; 0m ends a silence.")
    ] = "2h",
) -> None:
    """Silence a rule for a while. What is still active when the silence ends is reported then.

    `ops alerts` lists the rules that are silenced.

    Example: ops alerts silence worker_lost --for 2h

    Example: ops alerts silence worker_lost --for 0m
    """
    chosen, wanted = one_of(Rule, rule, "RULE"), _silence(length)
    with writing(load_settings(), application="cli") as db:
        if wanted:
            said = _silenced(chosen, silence(db, chosen, wanted))
        elif end_silence(db, chosen):
            said = f"alerts for {chosen} are reported again"
        else:
            said = f"alerts for {chosen} were not silenced: nothing changed"
    say(said)


def forget(
    database: Annotated[str, typer.Argument(metavar="DATABASE", help="As `ops alerts` shows it.", show_default=False)],
) -> None:
    """End the alert that a database has no verified backup: for one that is gone for good.

    It is watched again as soon as somebody tries to back it up: take it off the schedule first.

    Example: ops alerts forget odoo_old
    """
    storable(database, what="DATABASE")
    with writing(load_settings(), application="cli") as db:
        found = forget_database(db, database)
        active = [row for row in read_incidents(db) if row["rule"] == Rule.BACKUP and not row["resolved_at"]]
    if not found:
        meant = did_you_mean(database, [name for row in active for name in row["subjects"]])
        raise UsageError(
            f"DATABASE: no backup alert is active for {database[:70]!r}.{meant} Hint: `ops alerts` lists those that are"
        )
    console.print(f"no backup of {database} is expected any more, until somebody starts one", markup=False)


def _number(words: str) -> int:
    """The number of an alert. Raises UsageError."""
    if not words.isascii() or not words.isdecimal() or not 0 < int(words) <= MOST_ALERTS:
        raise UsageError(f"ALERT: {words[:50]!r} is not the number of an alert. Hint: `ops alerts` lists them")
    return int(words)


def _silence(words: str) -> timedelta:
    """How long a silence lasts; 0 ends one. Raises UsageError."""
    length = read_length(words)
    if length is None or length > LONGEST:
        raise UsageError(
            f"--for {words[:50]!r}: expected a number and s, m, h, d or w, at most 30d, as in `--for 2h`; "
            "`--for 0m` ends a silence"
        )
    return length


def _silenced(rule: str, until: datetime) -> str:
    return f"alerts for {rule} are silenced until {clock(until)}: `ops alerts silence {rule} --for 0m` ends that"


def _incidents(incidents: list[dict[str, Any]]) -> Columns:
    table = Columns.of("alert", "rule", "lane", "since", "state", "kind?", "database", "subjects")
    for row in incidents:
        named = ", ".join(map(alert_subject, row["subjects"]))
        more = row["episodes"] - len(row["subjects"])
        table.add(
            str(row["id"]),
            row["rule"],
            row["lane"],
            moment(row["opened_at"], row["now"]),
            _state(row),
            safe_line(", ".join(row["kinds"]), width=100),
            safe_line(", ".join(row["databases"]), width=200),
            safe_line(named + (f" +{more}" if more else ""), width=500),
            style="dim" if row["resolved_at"] else "bold red",
        )
    return table


def _advice(incidents: list[dict[str, Any]]) -> list[str]:
    """What each rule that holds means and what to do about the first alert of it, a line each."""
    first = {Rule(row["rule"]): row for row in reversed(incidents) if not row["resolved_at"]}
    lines = []
    for rule, row in first.items():
        wording, subject = WORDINGS[rule], row["subjects"][0]
        what = filled_in(wording.advice, run=alert_subject(subject).removeprefix("run "), name=subject)
        lines.append(f"\nalert {row['id']}, {wording.title}: {what}")
    return lines


def _state(row: dict[str, Any]) -> str:
    if row["resolved_at"]:
        return f"over {moment(row['resolved_at'], row['now'])}"
    if row["silenced_until"]:
        return f"silent until {moment(row['silenced_until'], row['now'])}"
    if row["acknowledged_by"]:
        return f"{safe_line(row['acknowledged_by'], width=40)} has it"
    return "reported" if row["told_at"] else "not reported yet"


def _orders_remarks(settings: Settings) -> list[str]:
    """Words in OPS_ALERT_URLS and OPS_ALERT_THRESHOLDS that name nothing, or nothing any more."""
    try:
        gone = read_orders(settings).gone
    except UsageError as error:
        return [str(error)]
    return [f"{kind} is named in OPS_ALERT_URLS or OPS_ALERT_THRESHOLDS, and not a runbook any more" for kind in gone]


def _remarks(settings: Settings, figures: Figures) -> list[str]:
    """What keeps alerts from arriving, as far as it shows here."""
    from deployments.room.readiness import ALERTER_SECONDS, alerter_works

    remarks = []
    if settings.alert_urls is None and not figures.delivered_total:
        remarks.append(
            "Alerts go nowhere: OPS_ALERT_URLS is not set here. Hint: connect Mattermost, see docs/alerts.md."
        )
    if figures.last_cycle_at is None:
        remarks.append("The alerter never ran here.")
    elif not alerter_works(settings.ops_url):
        silent = f"No alerter has worked for {ALERTER_SECONDS:g} s: what is new was sent to nobody"
        remarks.append(f"{silent}. `ops doctor` says what to do.")
    return remarks
