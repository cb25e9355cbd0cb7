"""The five days of the checklist. They are those of the document that the room was made from; where it names a service
that this room does not need, the line asks for what does that work here."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime

import httpx
import psutil

from blocks.check import Check
from cli.doctor import room
from cli.doctor.checklist import Day, Line
from cli.doctor.firewall import check_firewall
from cli.text import clock
from deployments.room.report import current_report
from exporter.alerting.routes import read_orders
from opsdb.alerts.episodes import RULE_OF_FENCE
from opsdb.alerts.incidents import KEPT_DAYS
from opsdb.alerts.read import read_figures
from opsdb.kinds.runbook_files import runbook_files
from opsdb.logins import read_logins
from opsdb.rights import READING
from opsdb.runs.evidence import Success, last_copy_made, last_success, last_told
from opsdb.runs.lookup import reading, short_id
from opsdb.settings import Settings
from opsdb.web.hosts import LOOPBACK

REQUEST_SECONDS = 5.0
RESTORES = ("odoo_restore_drill", "odoo_db_restore", "odoo_staging_copy")
LINES = "`ops render pg-hba` prints lines that do"
ACCESS = """
SELECT current_setting('listen_addresses'), current_setting('ssl')::bool,
       has_function_privilege('pg_catalog.pg_hba_file_rules()', 'EXECUTE')
         AND has_table_privilege('pg_catalog.pg_hba_file_rules', 'SELECT')
"""
PLAIN = """
SELECT line_number FROM pg_catalog.pg_hba_file_rules
WHERE type IN ('host', 'hostnossl') AND auth_method <> 'reject' AND NOT coalesce(
    address IN ('127.0.0.1', '::1', 'localhost', 'samehost') OR address LIKE '127.%%', false)
ORDER BY line_number
"""


def look_at_host(_settings: Settings) -> Iterator[Check]:
    """How large this host is."""
    cores, memory = os.cpu_count() or 1, psutil.virtual_memory().total
    found = f"{cores} cores, {memory / 2**30:.1f} GiB of memory"
    if memory < 1.5 * 2**30:
        yield Check("", found, "take a larger one: `ops size` says how large")
    else:
        yield Check("", found)


def look_at_firewall(settings: Settings) -> Iterator[Check]:
    """Whether everybody reaches a port that is not for everybody."""
    yield check_firewall({5432, settings.prefect_port, settings.exporter_port, settings.health_port})


def look_at_remote_access(settings: Settings) -> Iterator[Check]:
    """Whether PostgreSQL answers to other hosts, and then only over TLS."""
    with reading(settings) as db:
        address, tls, may_see = db.exec_driver_sql(ACCESS).one()
        places = {place.strip() for place in address.split(",")} - {""}
        if places <= LOOPBACK:
            yield Check(
                "",
                "no other host reaches it: it has a socket, or a port of loopback, and no more",
            )
        elif not tls:
            yield Check("", f"it listens on {address} without TLS", f"ssl = on in postgresql.conf, and {LINES}")
        elif not may_see:
            yield Check("", f"it listens on {address} and speaks TLS; a superuser sees whether it insists: {LINES}")
        elif plain := db.exec_driver_sql(PLAIN).scalars().all():
            found = f"it takes logins without TLS: line {', '.join(map(str, plain))} of pg_hba.conf"
            yield Check("", found, f"hostssl in place of host there, or {LINES}")
        else:
            yield Check("", f"it listens on {address}, and takes logins over TLS alone")


def look_at_recovery(settings: Settings) -> Iterator[Check]:
    """Whether lost runs are ended and what they left is put right: that is the sync's work."""
    yield from room.check_sync(settings)


def look_at_health(settings: Settings) -> Iterator[Check]:
    """What the worker's health address says, as a platform's probe would ask."""
    address = settings.health_address
    url = f"http://{f'[{address}]' if ':' in address else address}:{settings.health_port}/health"
    with httpx.Client(timeout=REQUEST_SECONDS, trust_env=False) as http:
        try:
            answer = http.get(url)
        except httpx.HTTPError as error:
            yield Check("", f"{url} does not answer: {type(error).__name__}", "start a worker here: `ops up --detach`")
            return
    if answer.status_code == httpx.codes.OK:
        yield Check("", f"{url} says {answer.json()['status']}")
    else:
        yield Check("", f"{url} answers {answer.status_code}", "`ops status`; the worker's log says why")


def look_at_schedules(settings: Settings) -> Iterator[Check]:
    """Whether a schedule has started a backup that was verified."""
    with reading(settings) as db:
        night = last_success(db, "nightly_backup", scheduled=True)
    then = "`ops schedule list` says when it starts next; `ops schedule set nightly-backup --resume` if it is paused"
    yield _proven(night, otherwise="no schedule has started a backup that succeeded", then=then)


def look_at_address(settings: Settings) -> Iterator[Check]:
    """Whether operators reach the UI by its own name over TLS."""
    where = settings.server_address
    with httpx.Client(timeout=REQUEST_SECONDS, trust_env=False) as http:
        try:
            status = http.get(f"{where}/api/health").status_code
        except httpx.HTTPError as error:
            advice = "`ops render nginx` prints the configuration: docs/howto/production.md"
            yield Check("", f"{where} cannot be reached from here: {type(error).__name__}", advice)
            return
    if status != httpx.codes.OK:
        yield Check("", f"{where} answers {status}", "see `ops status`, and the log of the web server before it")
    elif not where.startswith("https://"):
        advice = "`ops render nginx`, a certificate, then OPS_SERVER_URL=https://...: docs/howto/production.md"
        yield Check("", f"{where} answers, without TLS: for this host alone", advice)
    else:
        yield Check("", f"{where} answers, and its certificate is valid")


def look_at_first_run(settings: Settings) -> Iterator[Check]:
    """Whether a run went all the way."""
    with reading(settings) as db:
        run = last_success(db)
    yield _proven(run, otherwise="no run has succeeded", then="ops run odoo_db_backup -p odoo_db=NAME --wait")


def ran(kind: str, then: str) -> Line:
    """The line of a runbook that has proven itself here."""

    def look(settings: Settings) -> Iterator[Check]:
        with reading(settings) as db:
            run = last_success(db, kind)
        yield _proven(run, otherwise="deployed, and has not succeeded here yet", then=then)

    return Line(f"Runbook {kind}", look)


def look_at_copies(settings: Settings) -> Iterator[Check]:
    """Whether a backup stands anywhere but on this host."""
    with reading(settings) as db:
        run = last_copy_made(db)
    then = "fill in a Backup Target block, then `ops run odoo_db_backup -p odoo_db=NAME -p target=BLOCK --wait`"
    yield _proven(run, otherwise="no copy of a backup was made elsewhere", then=then)


def look_at_restores(settings: Settings) -> Iterator[Check]:
    """Whether a backup was ever restored."""
    with reading(settings) as db:
        run = last_success(db, *RESTORES)
    then = "ops run odoo_restore_drill -p odoo_db=NAME --wait"
    yield _proven(run, otherwise="no backup was restored", then=then)


def look_at_readers(settings: Settings) -> Iterator[Check]:
    """Whether a dashboard has a login that only reads."""
    with reading(settings) as db:
        logins = [one for one in read_logins(db) if set(one.roles) <= set(READING)]
    if logins:
        names = ", ".join(f"{one.name} ({one.connections} connected)" for one in logins)
        yield Check("", f"logins that only read: {names}")
    else:
        yield Check("", "no login for Superset or n8n", "ops db login superset --role superset_ro: docs/monitoring.md")


def look_at_destinations(settings: Settings) -> Iterator[Check]:
    """Whether an alert ever arrived."""
    with reading(settings) as db:
        delivered = read_figures(db).delivered_total
    if delivered:
        yield Check("", f"messages delivered: {delivered}")
    elif read_orders(settings).routes:
        yield Check("", "no alert has been delivered yet", "`ops alerts test` sends a message; then try a stuck run")
    else:
        yield Check("", "no alert was delivered, and OPS_ALERT_URLS is not set here", "set it: docs/alerts.md")


def look_at_trial(settings: Settings) -> Iterator[Check]:
    """Whether operators have seen what a stuck run looks like."""
    with reading(settings) as db:
        at = last_told(db, RULE_OF_FENCE.values())
    if at is None:
        found = f"no alert of a stuck run was sent within {KEPT_DAYS} days"
        yield Check("", found, "kill one on purpose: docs/alerts.md, A trial")
    else:
        yield _since("operators were alerted to one", at)


def look_at_procedures(settings: Settings) -> Iterator[Check]:
    """Whether the team's own procedures are runbooks here."""
    from flows.template.catalogue import catalogue

    own = sum(len(file.kinds) for file in runbook_files(settings))
    templates = [one for one in catalogue(settings) if settings.templates in one.path.parents]
    if own or templates:
        yield Check("", f"{len(templates)} templates of OPS_TEMPLATES, {own} in Python of OPS_RUNBOOKS and packages")
    elif settings.templates is None and settings.runbooks is None:
        advice = "a folder of the team's own runbooks: docs/templates.md, docs/howto/first-runbook.md"
        yield Check("", "neither OPS_TEMPLATES nor OPS_RUNBOOKS is set", advice)
    else:
        yield Check("", f"{settings.templates or settings.runbooks} holds none", "write one: docs/templates.md")


def _proven(run: Success | None, *, otherwise: str, then: str) -> Check:
    """A run as evidence; without one, what is missing and what to do."""
    if run is None:
        return Check("", otherwise, then)
    return _since(f"run {short_id(run.id)} of {run.kind} succeeded", run.at)


def _since(what: str, at: datetime) -> Check:
    return Check("", f"{what} at {clock(at)}")


def look_at_room(settings: Settings) -> Iterator[Check]:
    """Whether the room runs."""
    report = current_report(settings.home)
    if report is None:
        yield Check("", f"none runs in {settings.home}", "ops up --detach")
    else:
        yield from room.judge_parts(report, log=settings.home / "log")


DAYS = (
    Day(
        "Day 1: the host and the database",
        (
            Line("A host of the right size", look_at_host),
            Line("Firewall", look_at_firewall),
            Line("PostgreSQL, the schema ops and its roles", room.check_ops_database),
            Line("PostgreSQL from other hosts", look_at_remote_access),
        ),
    ),
    Day(
        "Day 2: workers",
        (
            Line("The room runs", look_at_room),
            Line("Lanes and runbooks in Prefect", room.check_prefect),
            Line("A worker for each lane", room.check_workers),
            Line("Recovery of lost runs", look_at_recovery),
            Line("Health of the worker", look_at_health),
        ),
    ),
    Day(
        "Day 3: the UI",
        (
            Line("The address of the UI, with TLS", look_at_address),
            Line("A run from end to end", look_at_first_run),
        ),
    ),
    Day(
        "Day 4: runbooks",
        (
            ran("odoo_fresh_deploy", "ops run odoo_fresh_deploy -p droplet_name=NAME --dry-run: docs/runbooks.md"),
            ran(
                "odoo_module_upgrade",
                "ops run odoo_module_upgrade -p odoo_db=NAME -p modules=NAME --dry-run: docs/odoo.md",
            ),
            ran("odoo_db_backup", "ops run odoo_db_backup -p odoo_db=NAME --wait"),
            Line("Backups by schedule", look_at_schedules),
            Line("A copy of a backup elsewhere", look_at_copies),
            Line("A backup that was restored", look_at_restores),
        ),
    ),
    Day(
        "Day 5: monitoring and alerts",
        (
            Line("Metrics for Prometheus", room.check_exporter),
            Line("A login for dashboards", look_at_readers),
            Line("Alerts that arrive", look_at_destinations),
            Line("A stuck run, tried", look_at_trial),
            Line("The team's own procedures", look_at_procedures),
        ),
    ),
)
"""In order: what a line needs is on a day before it."""
