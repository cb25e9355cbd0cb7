"""The work pool type `lane`: each run is a process of its own, forked from one that is loaded already."""

from __future__ import annotations

import asyncio
import os
import socket
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn
from uuid import UUID

import anyio
import httpx
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.responses import DeploymentResponse, WorkerFlowRunResponse
from prefect.exceptions import Abort, ObjectNotFound
from prefect.states import Cancelled, Failed, Pending, Scheduled
from prefect.utilities.engine import propose_state
from prefect.workers.base import BaseJobConfiguration, BaseVariables, BaseWorker, BaseWorkerResult

from deployments.worker.admission import Deployments, refusal
from deployments.worker.due_runs import DueRuns
from deployments.worker.prefect_inner import Related
from deployments.worker.reaper import end_processes
from deployments.worker.reports import Reports, warn_of_outage
from deployments.worker.run_process import RunProcessHandle, RunTask
from deployments.worker.runbooks import Runbooks
from deployments.worker.ticks import LastKnownRules, Ticks, due_at_of
from opsdb.processes import exit_codes
from opsdb.processes.running import entry_of
from opsdb.runs.prefect_runs import RUNBOOK_TAG, state_of
from opsdb.schedules.rules import Verdict
from opsdb.settings import load_settings
from opsdb.states import CLAIMED_BY, RunStatus, fold

START_SECONDS = 3.0
"""How long the start of a run may hold up the next one."""
BASE_JOB_TEMPLATE: dict[str, Any] = {
    "job_configuration": {"labels": {}},
    "variables": {"type": "object", "properties": {}},
}
"""A lane takes no variables: nobody who reaches the API can give a run a command or an environment."""


class LaneWorker(BaseWorker[BaseJobConfiguration, BaseVariables, BaseWorkerResult]):
    """Serves one lane. The workers of a process share what is deployed, and one fork server."""

    type = "lane"
    job_configuration = BaseJobConfiguration
    _display_name = "Lane"
    _description = "Runs registered runbooks in forked processes. Takes no job variables."
    _runbooks: Runbooks | None = None
    _rules: LastKnownRules | None = None
    # runs of a burst start one after another, or all would start at its end
    _starts = asyncio.Semaphore(os.cpu_count() or 1)
    _due = DueRuns()
    clock_ahead = timedelta(0)
    """How far the database's clock is ahead of ours."""

    @classmethod
    def get_default_base_job_template(cls) -> dict[str, Any]:
        """What a pool of this type is made with."""
        return BASE_JOB_TEMPLATE

    async def setup(self) -> None:
        """Prepare to serve: load what runs need."""
        self.draining = False
        self.cut_off = False
        self.processes: dict[UUID, RunProcessHandle] = {}
        self._begun: set[UUID] = set()
        self._cancelled: set[UUID] = set()
        self._settings = load_settings()
        self._timings = self._settings.timings
        if LaneWorker._runbooks is None:
            LaneWorker._runbooks = Runbooks(self._settings)
        self._deployed = LaneWorker._runbooks
        await asyncio.to_thread(self._deployed.forks.warm_up)
        await super().setup()
        self._deployments = Deployments(self.client)
        self._reports = Reports(self.client, self._settings)
        LaneWorker._rules = LaneWorker._rules or LastKnownRules(self._settings)
        self._ticks = Ticks(self.client, LaneWorker._rules)

    @property
    def in_hand(self) -> set[UUID]:
        """The runs that are claimed, running, or ended and not yet reported."""
        return set(self._submitting_flow_run_ids)

    async def get_and_submit_flow_runs(self) -> list[FlowRun]:
        """Take what is due, unless this worker is about to end, or cannot see whether its runs are taken from it.

        Not before all that was taken is claimed: the server would count too few runs against the lane's limit.
        """
        if self.draining or self.cut_off or self.in_hand - self._begun:
            return []
        await self._deployed.look()  # before a run needs it: to load it takes seconds
        try:
            return await super().get_and_submit_flow_runs()
        except httpx.HTTPError as error:
            warn_of_outage(error)
            return []

    async def _get_scheduled_flow_runs(self) -> list[WorkerFlowRunResponse]:
        """What is due, by the database's clock: ours may be off."""
        if not await self._due.worth_a_poll(self._work_pool_name, self.client, before=self._now()):
            return []
        try:
            return await self.client.get_scheduled_flow_runs_for_work_pool(
                work_pool_name=self._work_pool_name,
                scheduled_before=self._now(),  # none that would wait in its process, and in a slot, until it is due
            )
        except ObjectNotFound:  # the pool was deleted; `ops deploy` makes it again
            return []

    def _now(self) -> datetime:
        return datetime.now(UTC) + self.clock_ahead

    async def _sync_and_initialize(self) -> None:
        """Say that we live, and read the pool's settings."""
        try:
            await super()._sync_and_initialize()
        except httpx.HTTPError as error:
            if not self._has_successfully_synced:
                raise
            warn_of_outage(error)

    async def run(self, flow_run: FlowRun, configuration: BaseJobConfiguration, task_status: object = None) -> NoReturn:
        """Not used: `_submit_run` serves the whole life of a run."""
        raise NotImplementedError

    async def _submit_run(self, flow_run: FlowRun) -> None:
        """Serve one run from its claim until the last of its processes is gone."""
        try:
            async with self._starts:
                begun = await self._begin(flow_run)
            self._begun.add(flow_run.id)
            if begun is not None:
                process, attempt = begun
                exit_code = await process.wait()
                await self._close(flow_run, attempt, process, exit_code)
                if self._deployed.forks.retiring:
                    await asyncio.to_thread(self._deployed.forks.end_retired)
        except Exception:  # an error of one run must not end the worker; the sweeper sees what became of the run
            self._logger.exception("run %s could not be served", flow_run.id)
        finally:
            self.processes.pop(flow_run.id, None)
            self._release_limit_slot(flow_run.id)
            self._submitting_flow_run_ids.discard(flow_run.id)
            self._begun.discard(flow_run.id)
            self._cancelled.discard(flow_run.id)
            if self._cancelling_observer is not None:
                self._cancelling_observer.remove_in_flight_flow_run_id(flow_run.id)

    async def _cancel_run(self, flow_run_id: UUID) -> None:
        """Cancel one of our runs. It ends, and puts back what it must, within its time, or is killed."""
        self._cancelled.add(flow_run_id)
        process = self.processes.get(flow_run_id)
        if process is None:
            return  # `_begin` looks before it starts one
        process.cancel()
        with anyio.move_on_after(self._timings.stop):
            await process.wait()
            return
        _, entered = entry_of(self._settings, flow_run_id)
        if entered is not None and entered.puts_back:
            with anyio.move_on_after(self._timings.put_back):
                await process.wait()
                return
        process.kill()

    async def _claim(self, flow_run: FlowRun) -> int | None:
        """Make the run ours. Returns the attempt's number; None when another was first, or when it was cancelled.

        Its history shows which attempt this is, and whether it still waits: Prefect lets a completed run be claimed.
        """
        history = [state_of(state) for state in await self.client.read_flow_run_states(flow_run.id)]
        if not history:
            self._logger.info("run %s not claimed: it was deleted in Prefect", flow_run.id)
            return None
        if fold(history).status is not RunStatus.QUEUED:
            self._logger.info("run %s not claimed: another worker was first", flow_run.id)
            return None
        kind = await self._deployments.kind(flow_run)
        try:
            state = await propose_state(
                self.client, Pending(message=f"{CLAIMED_BY}{worker_name()}"), flow_run_id=flow_run.id
            )
        except (Abort, ObjectNotFound) as answer:
            self._logger.info("run %s not claimed: %s", flow_run.id, answer)
            return None
        if not state.is_pending():
            return None
        flow_run.state = state
        flow_run.work_pool_name = self._work_pool_name  # not said in the answer to a poll
        flow_run.tags = sorted({*flow_run.tags, RUNBOOK_TAG})  # what a lane executes is one, whoever edited its tags
        self._reports.record_claim(flow_run, kind=kind, history=history)
        return fold([*history, state_of(state)]).attempt

    async def _begin(self, flow_run: FlowRun) -> tuple[RunProcessHandle, int] | None:
        """Claim a run and start its process. Returns it with the attempt's number, or None without one."""
        if self.draining or self.cut_off:
            return None  # it waits for another worker
        due_at = due_at_of(flow_run)
        attempt = await self._claim(flow_run)
        if attempt is None:
            return None
        try:
            for fresh in (False, True):  # one that was read before may be older than what is deployed
                deployment = await self._deployments.deployment(flow_run, fresh=fresh)
                await self._deployed.look()  # whatever was deployed before this run was made
                refused = refusal(flow_run, deployment, entrypoints=self._deployed.entrypoints)
                if refused is None:
                    break
            known = await self._deployments.related(flow_run, deployment, pool=self._work_pool)
            verdict = await self._judge(flow_run, due_at, deployment)
        except httpx.HTTPError:
            await self._hand_back(flow_run, attempt, "its worker could not read its deployment")
            return None
        if refused is not None:
            self._logger.error("run %s refused: %s", flow_run.id, refused)
            await self._reports.set_state(flow_run, attempt, Failed(name="Refused", message=refused))
        elif flow_run.id in self._cancelled:
            await self._reports.set_state(flow_run, attempt, Cancelled(message="cancelled before it started"))
        elif self.draining:
            await self._hand_back(flow_run, attempt, "its worker is about to end")
        elif verdict.end is not None:
            ended = Failed if verdict.end.is_failure else Cancelled
            await self._reports.set_state(flow_run, attempt, ended(name=verdict.end.value, message=verdict.message))
        elif deployment is not None:  # else it was refused
            if verdict.message:
                self._reports.record_event(flow_run, verdict.message)
            return await self._start(flow_run, attempt, entrypoint=deployment.entrypoint or "", known=known), attempt
        return None

    async def _judge(
        self, flow_run: FlowRun, due_at: datetime | None, deployment: DeploymentResponse | None
    ) -> Verdict:
        """What becomes of a run that a schedule planned for `due_at`; it is started when no schedule did."""
        if due_at is None or deployment is None:
            return Verdict(None)
        kind = await self._deployments.kind(flow_run)
        return await self._ticks.judge(flow_run, due_at, deployment, kind=kind, now=self._now())

    async def _hand_back(self, flow_run: FlowRun, attempt: int, why: str) -> None:
        """Let another worker claim a run that was not started."""
        waits: State[Any] = Scheduled(scheduled_time=self._now(), message=f"handed back: {why}")
        await self._reports.set_state(flow_run, attempt, waits)

    async def _start(
        self, flow_run: FlowRun, attempt: int, *, entrypoint: str, known: tuple[Related, ...]
    ) -> RunProcessHandle:
        _, earlier = entry_of(self._settings, flow_run.id)
        if earlier is not None:  # of an attempt on this host that nobody has cleaned up yet
            await asyncio.to_thread(end_processes, earlier, grace_seconds=0)
        environment = {**os.environ, **self._environment(flow_run, attempt)}
        task = RunTask(flow_run=flow_run, attempt=attempt, entrypoint=entrypoint, env=environment, known=known)
        process = await asyncio.to_thread(self._deployed.forks.start, task)
        self.processes[flow_run.id] = process
        if flow_run.id in self._cancelled:
            process.cancel()
        elif self.draining:  # the worker may have signalled its processes already
            process.terminate()
        await process.started(START_SECONDS)
        return process

    async def _close(self, flow_run: FlowRun, attempt: int, process: RunProcessHandle, exit_code: int) -> None:
        """Leave nothing of the run, and only then say how it ended, unless it said so itself.

        What could not be done stays in `OPS_HOME/running`, for the reaper and the sweeper.
        """
        path, entered = entry_of(self._settings, flow_run.id)
        if entered is not None and entered.pid != process.pid:
            return  # this run has been rescued and has begun again: what carries its id now is not ours
        gone = True
        if entered is not None:
            report = await asyncio.to_thread(end_processes, entered, grace_seconds=self._timings.grace)
            gone = not report.survivors
        if process.cancelled:
            cancelled: State[Any] = Cancelled(message="cancelled; all its processes are gone")
            told = await self._reports.set_state(flow_run, attempt, cancelled)
        else:
            if exit_code == exit_codes.CUT_OFF:  # the database would cut off the next run, too
                self.cut_off = True
            told = exit_code == 0 or await self._reports.report_end(flow_run, attempt, exit_code)
        if told and gone:
            path.unlink(missing_ok=True)

    def _environment(self, flow_run: FlowRun, attempt: int) -> dict[str, str]:
        return {
            "OPS_RUN_ID": str(flow_run.id),
            "OPS_ATTEMPT": str(attempt),
            "OPS_WORKER": worker_name(),
            "PREFECT__FLOW_RUN_ID": str(flow_run.id),
            "PREFECT__ENABLE_CANCELLATION_AND_CRASHED_HOOKS": "false",  # the worker says so, after it has looked
        }


def worker_name() -> str:
    """The name of this worker process, as it stands in `claimed_by`."""
    return f"{socket.gethostname()}-{os.getpid()}"
