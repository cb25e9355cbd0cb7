"""`ops retry`: another attempt of a run that did not succeed."""

from __future__ import annotations

from cli.harmless import harmless_line
from cli.output import print_json, say
from cli.run.cancel import user
from cli.run.end import wait_for
from cli.run.kept_steps import kept_steps
from cli.run.session_gap import cancel_if_session_was
from deployments.server import runs as prefect_server
from opsdb.errors import UsageError
from opsdb.runs.lookup import RunView, find_run, read_run, reading, short_id
from opsdb.runs.sessions import is_cancelled
from opsdb.settings import Settings
from opsdb.states import RunStatus


def retry_run(settings: Settings, *, run: str, from_failed: bool, wait: bool, as_json: bool) -> None:
    """Start a run once more, with its parameters, in its lane; with `from_failed` without the steps that succeeded.

    Raises UsageError when it is not over, when it succeeded, when its session was cancelled, when its processes are not
    known to be gone, and when what it did before does not stand any more, and typer.Exit with 1 when it was waited for
    and did not succeed.
    """
    with reading(settings) as db:
        details = read_run(db, find_run(db, run))
        if details is None:
            raise UsageError(f"run {run!r} was just deleted from the ops database")
        _check(details.view, session_cancelled=is_cancelled(db, details.view.run.session_id))
    view, name = details.view, short_id(details.view.run.id)
    with prefect_server.connect(settings) as server:
        kept = kept_steps(settings, view.run) if from_failed else []
        # by the database's clock: Prefect compares it with its own, which ours may not be
        how = "from its failed step " if from_failed else ""
        message = f"retried {how}by {user()} with `ops retry`"
        server.retry(view.run.id, at=view.now, message=message, keep_steps=from_failed)
        cancel_if_session_was(settings, server, run_id=view.run.id, session_id=view.run.session_id)
        document = {"id": view.run.id, "short_id": name, "kind": view.run.kind, "lane": view.run.lane}
        if not as_json:
            kind, attempt = harmless_line(view.run.kind), view.run.attempt + 1
            say(f"Run {name} of {kind} waits in lane {view.run.lane} for attempt {attempt}.")
            if from_failed:
                done = ", ".join(step.name for step in kept) or "none"
                say(f"Not done again: {done}.")
        if not wait:
            if as_json:
                print_json({**document, "attempt": view.run.attempt + 1, "status": RunStatus.QUEUED})
            return
        wait_for(
            settings,
            server,
            document,
            lane=view.run.lane,
            as_json=as_json,
            since_attempt=view.run.attempt + 1,
        )


def _check(view: RunView, *, session_cancelled: bool) -> None:
    run, name = view.run, short_id(view.run.id)
    if not run.status.terminal:
        raise UsageError(f"run {name} is {run.status}, not over: `ops cancel {name} --wait` ends it")
    if run.status is RunStatus.SUCCEEDED:
        raise UsageError(f"run {name} succeeded: to do it once more, start another: ops run {run.kind}")
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
