"""`ops approve`: let a run go on that waits for a person."""

from __future__ import annotations

from cli.output import print_json, say
from cli.run.cancel import user
from cli.run.kept_steps import kept_steps
from deployments.server import runs as prefect_server
from opsdb.errors import UsageError
from opsdb.runs.lookup import find_run, read_run, reading, short_id
from opsdb.settings import Settings


def approve_run(settings: Settings, *, run: str, as_json: bool) -> None:
    """Approve of what the run asked.

    Raises UsageError when it does not wait for that, or waited too long, and when what it did before it asked does not
    stand any more: it could not go on.
    """
    with reading(settings) as db:
        details = read_run(db, find_run(db, run))
    if details is None:
        raise UsageError(f"run {run!r} was just deleted from the ops database")
    view, name = details.view, short_id(details.view.run.id)
    with prefect_server.connect(settings) as server:
        if view.waits_for_approval:
            try:
                kept_steps(settings, view.run)
            except UsageError as error:
                raise UsageError(f"not approved. {error}. It still waits: `ops cancel {name}` ends it") from None
        # by the database's clock: Prefect compares it with its own, which ours may not be
        state = server.approve(view.run.id, at=view.now, message=f"approved by {user()} with `ops approve`")
    if as_json:
        print_json({"id": view.run.id, "short_id": name, "status": state.status, "state": state.name})
    else:
        said = f"Run {name} goes on as soon as lane {view.run.lane} has a slot. Next: ops logs {name} --follow"
        say(said)
