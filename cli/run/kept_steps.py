"""Which steps of a run would not be done again if it went on."""

from __future__ import annotations

from opsdb.kinds.kinds import entrypoint_of
from opsdb.runs.kept_steps import KeptStep, read_kept
from opsdb.runs.lookup import reading
from opsdb.runs.runs import recorded_states
from opsdb.settings import Settings
from opsdb.states import fold
from opsdb.tables import Run


def kept_steps(settings: Settings, run: Run) -> list[KeptStep]:
    """The steps, as this host sees it; the run process looks once more. Raises UsageError when they do not stand.

    To load a runbook is to load Prefect, which must know its server by then.
    """
    from flows.engine.dry_run import load_runbook
    from flows.engine.runbook import version_of

    version = version_of(load_runbook(entrypoint_of(run.kind, settings)))
    with reading(settings) as db:
        attempts = range(fold(recorded_states(db, run_id=run.id)).base, run.attempt + 1)
        return read_kept(db, run_id=run.id, attempts=attempts, version=version, resource=run.resource).steps
