"""`ops approve` and `ops retry`: another attempt of a run, which may keep the steps that succeeded."""

from __future__ import annotations

from sqlalchemy import Connection

from cli.account import account
from cli.run.cancel import cancel_if_session_cancelled
from cli.run.end import wait_for
from cli.run.view import called
from cli.text import print_json, say
from deployments.server import runs as prefect_server
from opsdb.errors import UsageError
from opsdb.kinds.kinds import entrypoint_of
from opsdb.runs.kept_steps import KeptStep, read_kept
from opsdb.runs.lookup import RunView, find_run, read_run, reading, short_id
from opsdb.runs.names import Verb
from opsdb.runs.runs import recorded_states
from opsdb.runs.sessions import is_cancelled
from opsdb.settings import Settings
from opsdb.states import RunStatus, fold
from opsdb.tables import Run


def approve_run(settings: Settings, *, run: str, as_json: bool) -> None:
    """Approve of what the run asked.

    Raises UsageError when it does not wait for that, or waited too long, and when what it did before it asked does not
    stand any more: it could not resume.
    """
    with reading(settings) as db:
        view = _read(db, run, Verb.APPROVE)
    name = short_id(view.run.id)
    with prefect_server.connect(settings) as server:
        if view.waits_for_approval:
            try:
                _kept_steps(settings, view.run)
            except UsageError as error:
                raise UsageError(f"not approved. {error}. It still waits: `ops cancel {name}` ends it") from None
        # by the database's clock: Prefect compares it with its own, which ours may not be
        state = server.approve(view.run.id, at=view.now, message=f"approved by {account()} with `ops approve`")
    if as_json:
        print_json({"id": view.run.id, "short_id": name, "status": state.status, "state": state.name})
    else:
        said = f"Run {name} ({called(view.run)}) resumes as soon as lane {view.run.lane} has a slot."
        say(f"{said} Next: ops logs {name} --follow")


def retry_run(settings: Settings, *, run: str, from_failed: bool, wait: bool, as_json: bool) -> None:
    """Start a run once more, with its parameters, in its lane; with `from_failed` without the steps that succeeded.

    Raises UsageError when it is not over, when it succeeded, when Prefect does not have it any more, when its session
    was cancelled, when its processes are not known to be gone, and when what it did before does not stand any more, and
    typer.Exit with 1 when it was waited for and did not succeed.
    """
    with reading(settings) as db:
        view = _read(db, run, Verb.RETRY)
        _check(view, session_cancelled=is_cancelled(db, view.run.session_id))
    name, attempt = short_id(view.run.id), view.run.attempt + 1
    with prefect_server.connect(settings) as server:
        kept = _kept_steps(settings, view.run) if from_failed else []
        # by the database's clock: Prefect compares it with its own, which ours may not be
        how = "from its failed step " if from_failed else ""
        message = f"retried {how}by {account()} with `ops retry`"
        try:
            server.retry(view.run.id, at=view.now, message=message, keep_steps=from_failed)
        except prefect_server.UnknownRunError:
            raise UsageError(
                f"Prefect does not have run {name} any more and cannot start it again: somebody deleted it there, or "
                f"it was old. `ops rerun {name}` starts another with the same parameters"
            ) from None
        cancel_if_session_cancelled(settings, server, run_id=view.run.id, session_id=view.run.session_id)
        document = {"id": view.run.id, "short_id": name, "kind": view.run.kind, "lane": view.run.lane}
        if not as_json:
            say(f"Run {name} ({called(view.run)}) waits in lane {view.run.lane} for attempt {attempt}.")
            if from_failed:
                done = ", ".join(step.name for step in kept) or "none"
                say(f"Not done again: {done}.")
        if not wait:
            if as_json:
                print_json({**document, "attempt": attempt, "status": RunStatus.QUEUED})
            return
        wait_for(settings, server, document, as_json=as_json, since_attempt=attempt)


def _kept_steps(settings: Settings, run: Run) -> list[KeptStep]:
    """The steps, as this host sees it; the run process looks once more. Raises UsageError when they do not stand.

    To load a runbook is to load Prefect, which must know its server by then.
    """
    from flows.engine.dry_run import load_runbook
    from flows.engine.runbook import version_of

    version = version_of(load_runbook(entrypoint_of(run.kind, settings)))
    with reading(settings) as db:
        attempts = range(fold(recorded_states(db, run_id=run.id)).base, run.attempt + 1)
        return read_kept(db, run_id=run.id, attempts=attempts, version=version, resource=run.resource).steps


def _read(db: Connection, run: str, verb: Verb) -> RunView:
    details = read_run(db, find_run(db, run, verb))
    if details is None:
        raise UsageError(f"run {run!r} was just deleted from the ops database")
    return details.view


def _check(view: RunView, *, session_cancelled: bool) -> None:
    run, name = view.run, short_id(view.run.id)
    if not run.status.terminal:
        raise UsageError(f"run {name} {run.status.told} and is not over: `ops cancel {name} --wait` ends it")
    if run.status is RunStatus.SUCCEEDED:
        raise UsageError(f"run {name} succeeded: `ops rerun {name}` starts another with the same parameters")
    if session_cancelled:
        raise UsageError(
            f"session {run.session_id} of run {name} was cancelled, and none of its runs starts any more: to do it "
            f"once more outside of it, start another: ops run {run.kind}"
        )
    if run.fenced_at is not None and run.reaped_at is None and run.claimed_by is not None:
        raise UsageError(
            f"no worker confirmed that the processes of run {name} on {run.claimed_by} are gone: look there, and when "
            f"they are, start another: ops run {run.kind}"
        )
