"""What `ops doctor` looks at in the room: its parts, the ops database, workers, the sync, the metrics, alerts."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from blocks.check import Check
from blocks.database_check import check_database
from cli.deploy import read_files
from cli.text import clock
from deployments.room.parts import exporter_host, exporter_url
from deployments.room.readiness import (
    ALERTER_SECONDS,
    SYNC_SECONDS,
    Silence,
    alerter_works,
    explain_silence,
    exporter_is_ready,
    sync_is_current,
)
from deployments.room.report import GOOD, RoomReport, current_report, differing_runbooks
from exporter.alerting.authorities import read_authorities
from exporter.alerting.destinations import reach
from exporter.alerting.routes import read_orders
from opsdb.alerts.read import read_reached, read_undelivered
from opsdb.errors import OpsError
from opsdb.listener import check_listener
from opsdb.runs.lookup import kinds_used, reading, short_id
from opsdb.runs.waiting import read_set_later
from opsdb.runs.workers import count_workers
from opsdb.settings import Settings
from opsdb.tables import Lane

USED_DAYS = 30


def check_room(settings: Settings) -> Iterator[Check]:
    """Look at the parts, as `ops status` shows them."""
    report = current_report(settings.home)
    if report is None:
        yield Check("room", f"none runs in {settings.home}", "start it with `ops up --detach`, or give its OPS_HOME")
        return
    yield from judge_parts(report, log=settings.home / "log")
    if differs := differing_runbooks(settings):
        advice = "write the setting into ops.toml of OPS_HOME, which both read, and start the room again"
        yield Check("settings", differs, advice)


def judge_parts(report: RoomReport, *, log: Path) -> list[Check]:
    """A line for each part that does not do its work, or one for all."""
    wrong = [part for part in report.parts if part.state not in GOOD]
    if wrong:
        return [Check(part.name, part.state, f"the end of {log / part.name}.log says why") for part in wrong]
    if report.state != "ready":
        return [Check("room", report.state, "wait, and see `ops status`")]
    return [Check("room", f"{len(report.parts)} parts are ready, pid {report.pid}")]


def check_ops_database(settings: Settings) -> list[Check]:
    """Look at the ops database as this room's own login."""
    return check_database(settings.ops_url, writes=True)


def check_prefect(settings: Settings) -> Iterator[Check]:
    """Look at Prefect's server, its lanes and the deployments."""
    from deployments.server import check

    found = read_files(settings)
    yield from check.check_prefect(settings, files=found.deployments, all_read=not found.errors)


def check_workers(settings: Settings) -> Iterator[Check]:
    """Look which lanes are count_workers, wherever their workers are."""
    with reading(settings) as db:
        workers = count_workers(db, seconds=settings.timings.lost)
    for lane in Lane:
        count = workers.get(lane, 0)
        if count:
            yield Check(f"lane {lane}", f"{count} worker{'s' if count > 1 else ''} online")
        else:
            found = f"no heartbeat of a worker for {settings.timings.lost:g} s"
            yield Check(f"lane {lane}", found, f"start one: `ops up`, or `ops worker --lanes {lane}`")


def check_waiting(settings: Settings) -> Iterator[Check]:
    """Look for runs that were due and that somebody set to start later."""
    with reading(settings) as db:
        later = read_set_later(db)
    for run in later:
        name = short_id(run.id)
        found = f"was due at {clock(run.created_at)} and set to start at {clock(run.due_at)}"
        advice = f"setting it to Scheduled in the Prefect UI starts it at once, `ops cancel {name}` ends it"
        yield Check(f"run {name}", found, advice)


def check_sync(settings: Settings) -> Iterator[Check]:
    """Look whether `ops sync` keeps up."""
    if sync_is_current(settings.ops_url):
        yield Check("sync", "brings what Prefect knows into the ops database")
    else:
        found = f"recorded nothing for {SYNC_SECONDS:g} s: `ops runs` may show what is over"
        why = explain_silence(settings, "sync") or Silence(found, "start the room, or `ops sync`; see its log")
        yield Check("sync", why.found, why.advice)


def check_exporter(settings: Settings) -> Iterator[Check]:
    """Look whether the metrics are complete, and the room's. Raises UntrustedListenerError."""
    url = exporter_url(settings)
    address, port = exporter_host(settings)
    check_listener(port, address=address)
    if exporter_is_ready(url):
        yield Check("metrics", f"{url}/metrics is complete")
    else:
        yield Check("metrics", f"{url} is not ready: Prometheus sees nothing", "start the room, or `ops exporter`")


def check_alerts(settings: Settings) -> Iterator[Check]:
    """Look whether an alerter works, whether it has anybody to write to, and whether that arrived."""
    if alerter_works(settings.ops_url):
        yield Check("alerter", "watches the rules")
    else:
        found = f"no alerter has worked for {ALERTER_SECONDS:g} s: nobody hears what is wrong"
        why = explain_silence(settings, "alerter") or Silence(found, "start the room, or `ops alerter`; see its log")
        yield Check("alerter", why.found, why.advice)
    with reading(settings) as db:
        dead = [row for row in read_undelivered(db) if row["dead_at"]]
        reached = read_reached(db)
    destinations = reach(settings, read_orders(settings).routes)
    if destinations:
        names = ", ".join(one.name for one in destinations)
        yield Check("destinations", f"{names}; `ops alerts test` sends a message")
    elif reached:  # as a secret it may be set where the room is started, and nowhere else
        yield Check("destinations", f"OPS_ALERT_URLS is not set here; the room's alerts reached {', '.join(reached)}")
    else:
        yield Check(
            "destinations", "alerts go nowhere: OPS_ALERT_URLS is not set", "set OPS_ALERT_URLS: docs/alerts.md"
        )
    if dead:
        yield Check("delivery", f"{len(dead)} messages were given up", "`ops alerts` lists them with the reason")


def check_orders(settings: Settings) -> Iterator[Check]:
    """Look for words about alerts that mean nothing any more. Raises UsageError for a word that never did, and
    for a file without authorities."""
    read_authorities(settings.alert_ca_file)
    orders = read_orders(settings)
    for kind in orders.gone:
        found = "named in OPS_ALERT_URLS or OPS_ALERT_THRESHOLDS, and not a runbook of this room any more"
        yield Check(f"runbook {kind}", found, "take the word out, or bring the runbook back")
    if orders.links_end_here:
        found = f"links in alerts lead to {settings.server_address}, which only this host can open"
        yield Check("links", found, "set OPS_SERVER_URL to the address by which operators reach the Prefect UI")


def kinds_tried(settings: Settings) -> Collection[str]:
    """The runbooks that ran on a worker's own host lately; none when the database cannot be asked."""
    try:
        with reading(settings) as db:
            return kinds_used(db, days=USED_DAYS)
    except OpsError:
        return ()
