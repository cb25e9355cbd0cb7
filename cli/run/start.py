"""`ops run` and `ops rerun`: check, start, and with --wait follow to the end."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

from cli.account import account
from cli.options import storable
from cli.run.cancel import cancel_if_session_cancelled
from cli.run.end import wait_for
from cli.run.mistyped import check_databases
from cli.run.params import check_values, given_ones, parameters, split_assignments
from cli.text import errors, print_json, safe_line, say, value_text
from deployments.server import runs as prefect_server
from deployments.server.runs import PrefectServer, Started
from deployments.server.startable import Startable
from opsdb.database import clock_ahead, writing
from opsdb.errors import RoomUnreachableError, UsageError
from opsdb.kinds.subjects import name_of_run
from opsdb.runs.lookup import find_run, read_run, reading, short_id
from opsdb.runs.origins import started_message
from opsdb.runs.sessions import is_ad_hoc, is_cancelled, join_session, newest_session, spelled_id
from opsdb.schedules.store import read_rules
from opsdb.settings import Settings
from opsdb.tables import Lane
from opsdb.web.addresses import run_address


def start_run(
    settings: Settings,
    *,
    kind: str,
    assignments: list[str],
    lane: Lane,
    priority: int,
    session: str | None,
    idempotency_key: str | None,
    wait: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Start a run as `ops run` does. Everything is checked before anything is made.

    Raises UsageError, RoomUnreachableError, and typer.Exit with 1 when a run that was waited for did not succeed.
    """
    given = split_assignments(assignments)
    for text, what in ((kind, "KIND"), (session, "--session"), (idempotency_key, "--idempotency-key")):
        storable(text or "", what=what)
    with prefect_server.connect(settings) as server:
        startable = server.startable(kind=kind, lane=lane)
        params = parameters(given, schema=startable.schema, defaults=startable.defaults)
        if dry_run:
            from cli.run.dry_run import show_dry_run

            show_dry_run(settings, kind=kind, lane=lane, params={**startable.defaults, **params}, as_json=as_json)
            return
        check_databases(settings, {**startable.defaults, **params}, schema=startable.schema)
        session_id = None
        if session is not None:
            known = idempotency_key is not None and server.knows_key(startable, idempotency_key)
            session_id = _known_session(settings, session) if known else _join_session(settings, session)
        started = server.start(
            startable,
            name=_name(settings, kind, {**startable.defaults, **params}),
            params=params,
            priority=priority,
            session_id=session_id,
            idempotency_key=idempotency_key,
            message=started_message(account(), "ops run"),
        )
        if session_id is not None:
            cancel_if_session_cancelled(settings, server, run_id=started.id, session_id=session_id)
        document = _document(settings, startable, started, params=params, priority=priority, session=session)
        _report(settings, server, startable, document, wait=wait, as_json=as_json)


def rerun_run(settings: Settings, *, run: str, wait: bool, as_json: bool) -> None:
    """Start a run as another one was: its kind, parameters, lane, priority and session.

    One of a cancelled session is started outside of it, and one that was started without a session joins that of today.
    No idempotency key is taken over: asking twice starts two. Raises UsageError where the kind, its lane or a parameter
    is not what it was, and otherwise as `start_run`.
    """
    with reading(settings) as db:
        details = read_run(db, find_run(db, run))
        if details is None:
            raise UsageError(f"run {run!r} was just deleted from the ops database")
        was, session = details.view.run, details.view.session
        left = is_ad_hoc(was.session_id, session) or is_cancelled(db, was.session_id)
    session_id, name = None if left else was.session_id, short_id(was.id)
    with prefect_server.connect(settings) as server:
        startable = server.startable(kind=was.kind, lane=was.lane)
        params = given_ones(was.params, schema=startable.schema)
        try:
            check_values(params, schema=startable.schema, defaults=startable.defaults)
        except UsageError as error:
            raise UsageError(
                f"run {name} cannot be started again: {was.kind} has changed since: {error}. Start one with `ops run`"
            ) from None
        started = server.start(
            startable,
            name=_name(settings, was.kind, {**startable.defaults, **params}),
            params=params,
            priority=was.priority,
            session_id=session_id,
            idempotency_key=None,
            message=started_message(account(), "ops rerun", more=f", as run {name}"),
        )
        if session_id is not None:
            cancel_if_session_cancelled(settings, server, run_id=started.id, session_id=session_id)
        document = _document(
            settings, startable, started, params=params, priority=was.priority, session=None if left else session
        )
        if not as_json:
            say(f"As run {name}: {', '.join(f'{key}={value_text(value)}' for key, value in params.items())}")
            if left and not is_ad_hoc(was.session_id, session):
                say(f"Its session {safe_line(session)} was cancelled: the new run is outside of it.")
        _report(settings, server, startable, {**document, "rerun_of": was.id}, wait=wait, as_json=as_json)


def _report(
    settings: Settings,
    server: PrefectServer,
    startable: Startable,
    document: dict[str, Any],
    *,
    wait: bool,
    as_json: bool,
) -> None:
    """Say what was started, and with `wait` how it ended. Raises typer.Exit as `wait_for`."""
    if not as_json:
        _announce(document, new=document["new"])
        if startable.paused:
            say("Its deployment is paused in Prefect: no schedule starts it, but this run is started.")
        for line in _blackouts_now(settings, startable):
            say(line, style="yellow", to=errors)
    if wait:
        wait_for(settings, server, document, as_json=as_json)
    elif as_json:
        print_json(document)
    else:
        run = document["short_id"]
        say(f"Next: ops show {run}  |  ops logs {run} --follow  |  ops cancel {run}")


def _blackouts_now(settings: Settings, startable: Startable) -> list[str]:
    """That a schedule of the kind is in a blackout: it keeps back no run that somebody starts, but is worth knowing."""
    if not startable.zones:
        return []
    with reading(settings) as db:
        rules, now = read_rules(db), datetime.now(UTC) + clock_ahead(db)
    found = [
        rules[schedule].effective.blackout_at(now, ZoneInfo(zone))
        for schedule, zone in startable.zones.items()
        if schedule in rules
    ]
    return [
        f"note: schedules of {startable.kind} are in a blackout now ({window}); a run by hand starts all the same"
        for window in dict.fromkeys(str(window) for window in found if window)
    ]


def _name(settings: Settings, kind: str, params: dict[str, Any]) -> str | None:
    """What the run is called; None where the ops database does not answer, and the sync names it later."""
    try:
        with reading(settings) as db:
            return name_of_run(db, kind, params)
    except RoomUnreachableError:
        return None


def _join_session(settings: Settings, text: str) -> UUID:
    with writing(settings, application="cli") as db:
        return join_session(db, text)


def _known_session(settings: Settings, text: str) -> UUID:
    """The session of a run that a key started before: a new one, made for a request that is refused, would stay."""
    with reading(settings) as db:
        return spelled_id(text) or newest_session(db, text) or uuid4()


def _document(
    settings: Settings,
    startable: Startable,
    started: Started,
    *,
    params: dict[str, Any],
    priority: int,
    session: str | None,
) -> dict[str, Any]:
    return {
        "id": started.id,
        "short_id": short_id(started.id),
        "name": started.name,
        "kind": startable.kind,
        "lane": startable.lane,
        "priority": priority,
        "params": {**startable.defaults, **params},
        "session": session,
        "status": started.state.status,
        "new": started.new,
        "address": run_address(settings.server_address, started.id),
    }


def _announce(document: dict[str, Any], *, new: bool) -> None:
    name, lane = safe_line(document["name"]), document["lane"]
    if new:
        say(f"Run {document['short_id']} ({name}) waits in lane {lane}.")
    else:
        say(f"Run {document['short_id']} ({name}) was started before under this key; it {document['status'].told}.")
    say(f"{document['id']}  {document['address']}")
