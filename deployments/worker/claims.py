"""What passes between the worker and the ops database about one run: who claimed it, and how it ended."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

from prefect.client.schemas.objects import FlowRun
from sqlalchemy.exc import DBAPIError

from opsdb.database import connect, first_line
from opsdb.record.journal import journal_dir, last_words
from opsdb.runs.prefect_runs import facts_of, state_of
from opsdb.runs.runs import RunFacts, apply_states
from opsdb.runs.sweeper import Told, told_of
from opsdb.settings import Settings
from opsdb.states import State

log = logging.getLogger(__name__)


class Claims:
    """Writes beside the worker's loop, so that a database that is away delays no run: the sync catches up."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._engine = connect(settings, application="worker", statement_seconds=5)
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="ops-claims")

    def record(self, flow_run: FlowRun, *, kind: str, history: Sequence[State]) -> None:
        """The run is ours: claimed_by, claimed_at and heartbeat_at at once."""
        facts = facts_of(flow_run, kind=kind)
        if facts is None or flow_run.state is None:
            return
        self._writer.submit(self._write, facts, [*history, state_of(flow_run.state)])

    def told_of(self, run_id: UUID, *, attempt: int) -> Told | None:
        """What is recorded of an attempt that ended, here or in the ops database. Blocks for seconds.

        None when neither has anything, since the database does not answer.
        """
        written = last_words(journal_dir(self._settings), run_id, attempt=attempt)  # first: it goes from here to there
        if written is not None and written["outcome"]:
            return Told(taken=False, outcome=written["outcome"], message=(written["error"] or {}).get("message"))
        try:
            with self._engine.begin() as db:
                return told_of(db, run_id=run_id, attempt=attempt)
        except DBAPIError as error:
            log.warning("run %s: the ops database was asked how it ended: %s", run_id, first_line(error))
            return None

    def _write(self, facts: RunFacts, states: Sequence[State]) -> None:
        try:
            with self._engine.begin() as db:
                apply_states(db, facts=facts, states=states)
        except DBAPIError as error:
            log.warning("run %s: the ops database did not take the claim: %s", facts.id, first_line(error))
