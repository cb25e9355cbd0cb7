"""What a worker says of its runs: to the ops database that it claimed one, to Prefect how one ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import httpx
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.objects import State as PrefectState
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.states import Cancelled, Completed, Crashed, Failed
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError

from opsdb.database import connect, first_line
from opsdb.processes import exit_codes
from opsdb.record.journal import journal_dir, last_words
from opsdb.runs.attempts import Ending, read_ending
from opsdb.runs.deleted import end_deleted
from opsdb.runs.prefect_runs import facts_of, state_of
from opsdb.runs.runs import RunFacts, apply_states
from opsdb.runs.sweeper import judge_forced_end
from opsdb.settings import Settings
from opsdb.states import State, fold
from opsdb.storable import storable
from opsdb.tables import RunEvent

log = logging.getLogger(__name__)


class Reports:
    """Says of a lane's runs what their processes do not say."""

    def __init__(self, client: PrefectClient, settings: Settings) -> None:
        self._client = client
        self._settings = settings
        self._engine = connect(settings, application="worker", statement_seconds=5)
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="ops-claims")

    def record_claim(self, flow_run: FlowRun, *, kind: str, history: Sequence[State]) -> None:
        """Note that the run is ours: claimed_by, claimed_at and heartbeat_at at once.

        Written beside the worker's loop, so that a database that is away delays no run: the sync catches up.
        """
        facts = facts_of(flow_run, kind=kind)
        if facts is None or flow_run.state is None:
            return
        self._writer.submit(self._write_claim, facts, [*history, state_of(flow_run.state)])

    def record_event(self, flow_run: FlowRun, message: str) -> None:
        """Record something of a run whose claim was recorded. It is lost when the database is away."""
        self._writer.submit(self._write_event, flow_run.id, message)

    async def report_end(self, flow_run: FlowRun, attempt: int, exit_code: int) -> bool:
        """Tell Prefect how a run ended whose process did not. False when others must say it."""
        if exit_code == exit_codes.FENCED:
            await asyncio.to_thread(self._judge_forced_end, flow_run.id, attempt=attempt)
            return False
        ending = None
        if exit_code != exit_codes.CUT_OFF:  # else the database would not tell us either
            ending = await asyncio.to_thread(self._read_ending, flow_run.id, attempt=attempt)
        if ending is not None and ending.taken:
            return False
        if ending is not None and ending.outcome == "succeeded":
            return await self.set_state(flow_run, attempt, Completed(message="its process recorded that it succeeded"))
        if ending is not None and ending.outcome == "failed":
            return await self.set_state(flow_run, attempt, Failed(message=ending.message))
        words = exit_codes.exit_words(exit_code)
        return await self.set_state(flow_run, attempt, Crashed(message=f"the run process ended: {words}"))

    async def set_state(self, flow_run: FlowRun, attempt: int, state: PrefectState[Any]) -> bool:
        """Set a state in Prefect, unless the attempt is over there. False when Prefect does not answer for long.

        An attempt that was suspended is over, too: what follows is not its to say. The end of a run that was deleted
        in Prefect is recorded here only: False when the ops database does not take it.
        """
        timings = self._settings.timings
        give_up_at = asyncio.get_running_loop().time() + timings.report
        while True:
            try:
                history = await self._client.read_flow_run_states(flow_run.id)
                if not history:
                    return await asyncio.to_thread(self._end_deleted, flow_run.id, attempt=attempt, state=state)
                life = fold(state_of(known) for known in history)
                if life.latest.type == "CANCELLING" and state.is_scheduled():
                    state = Cancelled(message="cancelled before it started")
                if state.is_scheduled() and (flow_run.state is None or life.latest.id != flow_run.state.id):
                    return True  # handed back before, or not ours any more: another may have claimed it
                if life.attempt == attempt and not life.status.terminal:
                    # not repeated by the client when only the answer was lost: another may have begun by then
                    with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
                        await self._client.set_flow_run_state(flow_run.id, state, force=True)
            except ObjectNotFound:
                continue  # it was deleted this moment
            except httpx.HTTPError as error:
                warn_of_outage(error)
                if asyncio.get_running_loop().time() > give_up_at:
                    return False
                await asyncio.sleep(timings.report_every)
            else:
                return True

    def _read_ending(self, run_id: UUID, *, attempt: int) -> Ending | None:
        """What is recorded of an attempt that ended, here or in the ops database. Blocks for seconds.

        None when neither has anything, since the database does not answer.
        """
        written = last_words(journal_dir(self._settings), run_id, attempt=attempt)  # first: it goes from here to there
        if written is not None and written["outcome"]:
            return Ending(taken=False, outcome=written["outcome"], message=(written["error"] or {}).get("message"))
        try:
            with self._engine.begin() as db:
                return read_ending(db, run_id=run_id, attempt=attempt)
        except DBAPIError as error:
            log.warning("run %s: the ops database was asked how it ended: %s", run_id, first_line(error))
            return None

    def _judge_forced_end(self, run_id: UUID, *, attempt: int) -> None:
        """Say why a process ended itself that had not come to its end, if somebody had set that in Prefect."""
        try:
            with self._engine.begin() as db:
                judge_forced_end(db, run_id=run_id, attempt=attempt)
        except DBAPIError as error:
            log.warning("run %s: who ended it could not be recorded in the ops database: %s", run_id, first_line(error))

    def _end_deleted(self, run_id: UUID, *, attempt: int, state: PrefectState[Any]) -> bool:
        """Record the end of a run that Prefect does not have any more. False when the database does not answer."""
        log.warning("run %s was deleted in Prefect: its end is recorded in ops only", run_id)
        name = state.name or state.type.value.title()
        try:
            with self._engine.begin() as db:
                end_deleted(
                    db, run_id=run_id, attempt=attempt, type_=state.type.value, name=name, message=state.message
                )
        except DBAPIError as error:
            log.warning("run %s: the ops database did not take its end: %s", run_id, first_line(error))
            return False
        return True

    def _write_claim(self, facts: RunFacts, states: Sequence[State]) -> None:
        try:
            with self._engine.begin() as db:
                apply_states(db, facts=facts, states=states)
        except DBAPIError as error:
            log.warning("run %s: the ops database did not take the claim: %s", facts.id, first_line(error))

    def _write_event(self, run_id: UUID, message: str) -> None:
        try:
            with self._engine.begin() as db:
                db.execute(insert(RunEvent).values(id=uuid4(), run_id=run_id, message=storable(message)))
        except DBAPIError as error:
            log.warning("run %s: the ops database did not take an event: %s", run_id, first_line(error))


def warn_of_outage(error: Exception) -> None:
    """Log that Prefect does not answer: its loops would end the worker, and with it the runs, after some failures."""
    log.warning("Prefect does not answer: %s", first_line(error) or type(error).__name__)
