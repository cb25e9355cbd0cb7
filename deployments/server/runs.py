"""What the room asks of Prefect's server about runs, in the room's own terms: to start, watch and end them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from deployments.server.client import REQUEST_SECONDS, answering, pages, prefect_client
from deployments.server.keys import check_same_request, run_of_key
from deployments.server.obstacles import Hold, read_hold
from deployments.server.startable import Startable, all_startable, find_startable
from opsdb.errors import RoomUnreachableError, UsageError
from opsdb.runs.lookup import short_id
from opsdb.runs.sessions import tag_of
from opsdb.settings import Settings
from opsdb.states import RESUMING, STATUS_OF_PREFECT, State, fold
from opsdb.tables import Lane

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun
    from prefect.client.schemas.objects import State as PrefectState
    from prefect.client.schemas.responses import OrchestrationResult


@dataclass(frozen=True, kw_only=True)
class Started:
    """A run that was started: just now, or earlier under the same idempotency key."""

    id: UUID
    name: str
    new: bool
    state: State


@dataclass(frozen=True, kw_only=True)
class Cancelled:
    """What became of the wish to cancel a run. `asked` is False when someone else had asked before."""

    state: State
    asked: bool


@dataclass(frozen=True)
class Unrecorded:
    """Why the ops database may not have a run, as a sentence, and whether it is about to have it."""

    why: str
    coming: bool = False


class UnknownRunError(UsageError):
    """Prefect has no such run: nobody started it, or somebody deleted it there."""


class PrefectServer:
    """The room's Prefect server. Every method raises RoomUnreachableError when it does not answer."""

    def __init__(self, client: SyncPrefectClient) -> None:
        self._client = client

    def startable(self, *, kind: str, lane: Lane) -> Startable:
        """The deployment of a kind in a lane. Raises UsageError that names the kinds that exist."""
        with answering(self._client):
            return find_startable(self._client, kind=kind, lane=lane)

    def runbooks(self) -> dict[str, dict[Lane, Startable]]:
        """All kinds that can be started, by name, each with its lanes."""
        with answering(self._client):
            return all_startable(self._client)

    def start(
        self,
        startable: Startable,
        *,
        params: Mapping[str, Any],
        priority: int,
        session_id: UUID | None,
        idempotency_key: str | None,
        message: str,
        name: str | None = None,
    ) -> Started:
        """Create a run; `message` is that of its first state, as in `opsdb/runs/origins.py`.

        Without a name the sync gives it one.

        A key that was used before gives the earlier run; UsageError if that was another request.
        """
        from prefect.states import Scheduled

        from opsdb.runs.prefect_runs import queue_of, state_of, tags_of

        # the client repeats a request that got no answer: without a key that could start two runs
        key, request = idempotency_key or str(uuid4()), {"request": str(uuid4())}
        with answering(self._client):
            run = self._client.create_flow_run_from_deployment(
                startable.id,
                name=name,
                parameters=dict(params),
                tags=tags_of(priority=priority, session_id=session_id),
                work_queue_name=queue_of(priority),
                idempotency_key=key,
                context=request,
                state=Scheduled(message=message),
            )
        new = run.context == request
        if not new:
            check_same_request(run, startable, key=key, params=params, priority=priority, session_id=session_id)
        if run.state is None:
            raise RoomUnreachableError(f"Prefect made run {run.id} without a state: look at it in the Prefect UI")
        return Started(id=run.id, name=run.name, new=new, state=state_of(run.state))

    def knows_key(self, startable: Startable, key: str) -> bool:
        """Whether a run of that kind was started with an idempotency key."""
        with answering(self._client):
            return run_of_key(self._client, startable, key) is not None

    def state(self, run_id: UUID) -> State:
        """The state of a run now. Raises UnknownRunError when Prefect has no such run."""
        from opsdb.runs.prefect_runs import state_of

        state = self._flow_run(run_id).state
        if state is None:
            raise RoomUnreachableError(f"Prefect gives no state for run {run_id}: look at it in the Prefect UI")
        return state_of(state)

    def hold(self, run_id: UUID, *, lane: Lane, slots: int, now: datetime) -> Hold:
        """What Prefect holds up a queued run of a lane with; `slots` as in `read_hold`. UsageError as of `state`."""
        with answering(self._client):
            return read_hold(self._client, run_id, lane=lane, slots=slots, now=now)

    def why_unrecorded(self, run_id: UUID) -> Unrecorded:
        """Why the ops database may not have a run. UsageError as of `state`."""
        from opsdb.runs.prefect_runs import LANE_OF_POOL, RUNBOOK_TAG

        run = self._flow_run(run_id)
        if RUNBOOK_TAG not in run.tags:
            return Unrecorded("Prefect has it, but it is not a run of a runbook: the room records those alone")
        if (run.work_pool_name or "") not in LANE_OF_POOL:
            where = (
                f"in the work pool {run.work_pool_name}, which is not a lane" if run.work_pool_name else "in no lane"
            )
            return Unrecorded(f"Prefect has it {where}: no worker of the room takes it; start it with `ops run`")
        why = f"Prefect has it as {run.state_name}: it appears in seconds, see `ops status` if it does not"
        return Unrecorded(why, coming=True)

    def cancel(self, run_id: UUID, *, message: str) -> Cancelled:
        """Ask for the end of a run: at once when nothing of it runs, else its worker kills it and then says so.

        Raises UsageError when the run is over.
        """
        from prefect.client.schemas.responses import SetStateStatus
        from prefect.states import Cancelling

        from opsdb.runs.prefect_runs import state_of

        before = self.state(run_id)
        if before.status.terminal:
            raise UsageError(f"run {short_id(run_id)} {before.status.told} already: there is nothing to cancel")
        if before.type == "CANCELLING":
            return Cancelled(state=before, asked=False)
        with answering(self._client):
            answer: OrchestrationResult[None] = self._client.set_flow_run_state(run_id, Cancelling(message=message))
        if answer.state is not None and answer.status in (SetStateStatus.ACCEPT, SetStateStatus.REJECT):
            # REJECT: a run without a process goes to Cancelled instead of Cancelling
            return Cancelled(state=state_of(answer.state), asked=True)
        after = self.state(run_id)
        if after.type in ("CANCELLED", "CANCELLING"):  # asked for, and again by the client, which got no answer
            return Cancelled(state=after, asked=True)
        if after.status.terminal:
            raise UsageError(f"run {short_id(run_id)} {after.status.told} already: there is nothing to cancel")
        reason = getattr(answer.details, "reason", None) or answer.status.value
        raise UsageError(f"Prefect does not cancel run {short_id(run_id)}: {reason}")

    def approve(self, run_id: UUID, *, at: datetime, message: str) -> State:
        """Resume a run that waits for an approval, at once when `at` is now by Prefect's clock; its new state.

        Raises UsageError when it does not wait for one, or waited too long.
        """
        from prefect.client.schemas.responses import SetStateStatus
        from prefect.states import Scheduled

        from opsdb.runs.prefect_runs import state_of

        before = self.state(run_id)
        if not before.waits_for_approval:
            approved = self._approved(run_id)
            raise UsageError(f"run {short_id(run_id)} is not waiting for approval: {before.name} in Prefect{approved}")
        answer = self._set_once(run_id, Scheduled(name=RESUMING, scheduled_time=at, message=message))
        if answer.state is None or answer.status is not SetStateStatus.ACCEPT:
            reason = getattr(answer.details, "reason", None) or answer.status.value
            raise UsageError(f"Prefect refused to resume run {short_id(run_id)}: {reason}")
        return state_of(answer.state)

    def retry(self, run_id: UUID, *, at: datetime, message: str, keep_steps: bool) -> None:
        """Have a run that is over started once more, at once when `at` is now by Prefect's clock.

        With `keep_steps` the steps that succeeded are not done again. Raises UsageError when Prefect says that it is
        not over, or has nothing to start it from.
        """
        from prefect.exceptions import ObjectNotFound
        from prefect.states import AwaitingRetry, Scheduled

        before = self.state(run_id)
        if not before.status.terminal:
            raise UsageError(f"run {run_id} {before.status.told} in Prefect and is not over")
        with answering(self._client):
            flow_run = self._client.read_flow_run(run_id)
            try:
                if flow_run.deployment_id is None:
                    raise UsageError(f"run {run_id} belongs to no deployment: nothing can start it again")
                self._client.read_deployment(flow_run.deployment_id)
            except ObjectNotFound:
                raise UsageError(
                    f"the deployment of run {run_id} was deleted: `ops deploy` makes a new one for other runs"
                ) from None
        wanted: PrefectState[None] = (
            Scheduled(name=RESUMING, scheduled_time=at, message=message)
            if keep_steps
            else AwaitingRetry(scheduled_time=at, message=message)
        )
        # forced: Prefect's rules lead out of a terminal state only for a flow with retries of its own
        self._set_once(run_id, wanted, force=True)

    def unfinished_of_session(self, session_id: UUID) -> list[UUID]:
        """The runs of a session that are not over, as Prefect knows them."""
        from prefect.client.schemas.filters import (
            FlowRunFilter,
            FlowRunFilterState,
            FlowRunFilterStateType,
            FlowRunFilterTags,
        )
        from prefect.client.schemas.objects import StateType

        unfinished = [type_ for type_ in StateType if not STATUS_OF_PREFECT[type_.value].terminal]
        wanted = FlowRunFilter(
            tags=FlowRunFilterTags(all_=[tag_of(session_id)]),
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=unfinished)),
        )
        with answering(self._client):
            return [run.id for run in pages(self._client.read_flow_runs, flow_run_filter=wanted)]

    def _flow_run(self, run_id: UUID) -> FlowRun:
        from prefect.exceptions import ObjectNotFound

        with answering(self._client):
            try:
                return self._client.read_flow_run(run_id)
            except ObjectNotFound:
                raise UnknownRunError(f"Prefect knows no run {run_id}: it may have been deleted there") from None

    def _set_once(self, run_id: UUID, state: PrefectState[None], *, force: bool = False) -> OrchestrationResult[None]:
        """Ask for a state, and not again by itself: when only its answer was lost, that may be over by then."""
        from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

        with answering(self._client), temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
            return self._client.set_flow_run_state(run_id, state, force=force)

    def _approved(self, run_id: UUID) -> str:
        """How somebody approved of what the run does now, as the end of a sentence; empty when nobody had to."""
        from opsdb.runs.prefect_runs import state_of

        with answering(self._client):
            approval = fold(state_of(state) for state in self._client.read_flow_run_states(run_id)).approval
        return f", {approval.approving}" if approval else ""


@contextmanager
def connect(settings: Settings, *, request_seconds: float = REQUEST_SECONDS) -> Iterator[PrefectServer]:
    """The Prefect server of this room. Raises RoomUnreachableError without one."""
    with prefect_client(settings, request_seconds=request_seconds) as client:
        yield PrefectServer(client)
