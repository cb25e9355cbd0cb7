"""Starting, watching and ending runs: what the room asks of Prefect's server, in the room's own terms."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID, uuid4

import httpx

from opsdb.errors import RoomUnreachableError, UsageError
from opsdb.sessions import tag_of
from opsdb.settings import Settings
from opsdb.states import RESUMING, STATUS_OF_PREFECT, State, fold
from opsdb.tables import Lane

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import State as PrefectState
    from prefect.client.schemas.responses import OrchestrationResult

T = TypeVar("T")

REQUEST_SECONDS = 10.0
PAGE = 200


@dataclass(frozen=True, kw_only=True)
class Startable:
    """A kind in a lane, ready to be started. `defaults` are the parameters that the deployment itself sets."""

    id: UUID
    flow_id: UUID
    kind: str
    lane: Lane
    schema: dict[str, Any]
    defaults: dict[str, Any]


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


class PrefectServer:
    """The room's Prefect server. Every method raises RoomUnreachableError when it does not answer."""

    def __init__(self, client: SyncPrefectClient) -> None:
        self._client = client

    def startable(self, *, kind: str, lane: Lane) -> Startable:
        """The deployment of a kind in a lane. Raises UsageError that names the kinds that exist."""
        with answering(self._client):
            deployed = self._deployed_to()
            if kind not in deployed:
                raise UsageError(_unknown_kind(kind, sorted(deployed)))
            name = deployed[kind].get(lane)
            if name is None:
                there = ", ".join(sorted(deployed[kind]))
                raise UsageError(f"{kind} is not deployed to lane {lane}, but to {there}: give it as --lane")
            found = self._client.read_deployment_by_name(f"{kind}/{name}")
        return Startable(
            id=found.id,
            flow_id=found.flow_id,
            kind=kind,
            lane=lane,
            schema=dict(found.parameter_openapi_schema or {}),
            defaults=dict(found.parameters or {}),
        )

    def start(
        self,
        startable: Startable,
        *,
        params: Mapping[str, Any],
        priority: int,
        session_id: UUID | None,
        idempotency_key: str | None,
    ) -> Started:
        """Create a run. A key that was used before gives the run of then; UsageError if that was another request."""
        from opsdb.prefect_runs import queue_of, state_of, tags_of

        with answering(self._client):
            earlier = self._run_of_key(startable, idempotency_key) if idempotency_key else None
            run = self._client.create_flow_run_from_deployment(
                startable.id,
                parameters=dict(params),
                tags=tags_of(priority=priority, session_id=session_id),
                work_queue_name=queue_of(priority),
                # the client repeats a request that got no answer: without a key that could start two runs
                idempotency_key=idempotency_key or str(uuid4()),
            )
        same = run.deployment_id == startable.id and run.parameters == {**startable.defaults, **params}
        if earlier and not same:
            raise UsageError(
                f"--idempotency-key {idempotency_key!r} started run {run.id} before, in another lane or "
                "with other parameters: use a new key for a new run"
            )
        if run.state is None:
            raise RoomUnreachableError(f"Prefect made run {run.id} without a state: look at it in the Prefect UI")
        return Started(id=run.id, name=run.name, new=earlier is None, state=state_of(run.state))

    def state(self, run_id: UUID) -> State:
        """The state of a run now. Raises UsageError when Prefect knows no such run."""
        from prefect.exceptions import ObjectNotFound

        from opsdb.prefect_runs import state_of

        with answering(self._client):
            try:
                state = self._client.read_flow_run(run_id).state
            except ObjectNotFound:
                raise UsageError(f"Prefect knows no run {run_id}: it may have been deleted there") from None
        if state is None:
            raise RoomUnreachableError(f"Prefect gives no state for run {run_id}: look at it in the Prefect UI")
        return state_of(state)

    def cancel(self, run_id: UUID, *, message: str) -> Cancelled:
        """Ask for the end of a run: at once when nothing of it runs, else its worker kills it and then says so.

        Raises UsageError when the run is over.
        """
        from prefect.client.schemas.responses import SetStateStatus
        from prefect.states import Cancelling

        from opsdb.prefect_runs import state_of

        before = self.state(run_id)
        if before.status.terminal:
            raise UsageError(f"run {run_id} is already {before.status}: there is nothing to cancel")
        if before.type == "CANCELLING":
            return Cancelled(state=before, asked=False)
        with answering(self._client):
            answer: OrchestrationResult[None] = self._client.set_flow_run_state(run_id, Cancelling(message=message))
        if answer.state is not None and answer.status in (SetStateStatus.ACCEPT, SetStateStatus.REJECT):
            # REJECT: a run without a process goes to Cancelled instead of Cancelling
            return Cancelled(state=state_of(answer.state), asked=True)
        after = self.state(run_id)
        if after.status.terminal:
            raise UsageError(f"run {run_id} is already {after.status}: there is nothing to cancel")
        reason = getattr(answer.details, "reason", None) or answer.status.value
        raise UsageError(f"Prefect does not cancel run {run_id}: {reason}")

    def approve(self, run_id: UUID, *, at: datetime, message: str) -> State:
        """Let a run go on that waits for an approval, at once when `at` is now by Prefect's clock; its new state.

        Raises UsageError when it does not wait for one, or waited too long.
        """
        from prefect.client.schemas.responses import SetStateStatus
        from prefect.states import Scheduled

        from opsdb.prefect_runs import state_of

        before = self.state(run_id)
        if not before.waits_for_approval:
            approved = self._approved(run_id)
            raise UsageError(f"run {run_id} waits for no approval: it is {before.name} in Prefect{approved}")
        answer = self._set_once(run_id, Scheduled(name=RESUMING, scheduled_time=at, message=message))
        if answer.state is None or answer.status is not SetStateStatus.ACCEPT:
            reason = getattr(answer.details, "reason", None) or answer.status.value
            raise UsageError(f"Prefect does not let run {run_id} go on: {reason}")
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
            raise UsageError(f"run {run_id} is {before.status} in Prefect, not over")
        with answering(self._client):
            flow_run = self._client.read_flow_run(run_id)
            try:
                if flow_run.deployment_id is None:
                    raise UsageError(f"run {run_id} belongs to no deployment: nothing can start it again")
                self._client.read_deployment(flow_run.deployment_id)
            except ObjectNotFound:
                raise UsageError(
                    f"the deployment of run {run_id} is gone: `ops deploy` makes it anew for other runs"
                ) from None
        wanted: PrefectState[None] = (
            Scheduled(name=RESUMING, scheduled_time=at, message=message)
            if keep_steps
            else AwaitingRetry(scheduled_time=at, message=message)
        )
        # forced: Prefect's rules lead out of a terminal state only for a flow with retries of its own
        self._set_once(run_id, wanted, force=True)

    def address(self, run_id: UUID) -> str:
        """Where the run stands in the Prefect UI."""
        return f"{str(self._client.api_url).rstrip('/').removesuffix('/api')}/runs/flow-run/{run_id}"

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

    def _set_once(self, run_id: UUID, state: PrefectState[None], *, force: bool = False) -> OrchestrationResult[None]:
        """Ask for a state, and not again by itself: when only its answer was lost, that may be over by then."""
        from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

        with answering(self._client), temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
            return self._client.set_flow_run_state(run_id, state, force=force)

    def _approved(self, run_id: UUID) -> str:
        """How somebody approved of what the run does now, as the end of a sentence; empty when nobody had to."""
        from opsdb.prefect_runs import state_of

        with answering(self._client):
            approval = fold(state_of(state) for state in self._client.read_flow_run_states(run_id)).approval
        return f", {approval.approving}" if approval else ""

    def _deployed_to(self) -> dict[str, dict[Lane, str]]:
        """The kinds, each with the lanes that it is deployed to and its deployment's name there.

        A kind has one deployment in each lane, named like the lane's pool, or a single one with a schedule of its own.
        """
        from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags

        from opsdb.prefect_runs import LANE_OF_POOL, RUNBOOK_TAG

        runbooks = DeploymentFilter(tags=DeploymentFilterTags(all_=[RUNBOOK_TAG]))
        found: dict[str, dict[Lane, str]] = {}
        names = {flow.id: flow.name for flow in pages(self._client.read_flows, deployment_filter=runbooks)}
        for deployment in pages(self._client.read_deployments, deployment_filter=runbooks):
            lane = LANE_OF_POOL.get(deployment.work_pool_name or "")
            if lane is not None and deployment.flow_id in names:
                lanes = found.setdefault(names[deployment.flow_id], {})
                if deployment.name == lane.pool or lane not in lanes:
                    lanes[lane] = deployment.name
        return found

    def _run_of_key(self, startable: Startable, key: str) -> object | None:
        from prefect.client.schemas.filters import (
            FlowFilter,
            FlowFilterId,
            FlowRunFilter,
            FlowRunFilterIdempotencyKey,
        )

        found = self._client.read_flow_runs(
            flow_filter=FlowFilter(id=FlowFilterId(any_=[startable.flow_id])),
            flow_run_filter=FlowRunFilter(idempotency_key=FlowRunFilterIdempotencyKey(any_=[key])),
            limit=1,
        )
        return found[0] if found else None


@contextmanager
def prefect_server(settings: Settings) -> Iterator[PrefectServer]:
    """The Prefect server of this room. Raises RoomUnreachableError when there is none."""
    with prefect_client(settings) as client:
        yield PrefectServer(client)


@contextmanager
def prefect_client(settings: Settings, *, request_seconds: float = REQUEST_SECONDS) -> Iterator[SyncPrefectClient]:
    """Prefect's own client of this room's server. Raises RoomUnreachableError when there is none."""
    from deployments import access

    access.use(settings)
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    where = PREFECT_API_URL.value()
    if not where:
        raise RoomUnreachableError  # Prefect would quietly start a server of its own, with nothing in it
    with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 1}):  # 5 retries of 10 s keep a person waiting for minutes
        client = get_client(httpx_settings={"timeout": request_seconds}, sync_client=True)
        try:
            with answering(client):
                client.__enter__()
        except RuntimeError as error:  # how the client says that it could not ask for the server's version
            raise _unreachable(where, error.__cause__ or error) from error
        try:
            yield client
        finally:
            client.__exit__(None, None, None)


@contextmanager
def answering(client: SyncPrefectClient) -> Iterator[None]:
    """Turn a failed request into one line: RoomUnreachableError, or UsageError for what Prefect refuses."""
    where = str(client.api_url)
    try:
        yield
    except httpx.HTTPStatusError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise RoomUnreachableError(
                f"Prefect at {where} refuses this user ({status}): OPS_HOME must be that of the room that runs there"
            ) from error
        if status in (408, 429) or status >= 500:
            raise _unreachable(where, error) from error
        raise UsageError(f"Prefect refuses that: {_detail(error.response)}") from error
    except httpx.TransportError as error:
        raise _unreachable(where, error) from error


def pages(read: Callable[..., list[T]], **filters: Any) -> Iterator[T]:
    """All that Prefect's server has of something, which it gives out in pages."""
    for offset in itertools.count(0, PAGE):
        page = read(**filters, limit=PAGE, offset=offset)
        yield from page
        if len(page) < PAGE:
            return


def _unreachable(where: str, error: BaseException) -> RoomUnreachableError:
    reason = (str(error).splitlines() or [""])[0][:200] or type(error).__name__
    return RoomUnreachableError(
        f"Prefect at {where} does not answer ({reason}). `ops status` tells what runs; `ops up` starts the room."
    )


def _detail(response: httpx.Response) -> str:
    try:
        detail = response.json()["detail"]
    except (ValueError, KeyError, TypeError):
        detail = response.text
    return " ".join(str(detail).split())[:300] or str(response.status_code)


def _unknown_kind(kind: str, kinds: list[str]) -> str:
    if not kinds:
        return f"KIND: {kind!r} is not deployed, nor is any other runbook: `ops deploy` deploys them"
    close = difflib.get_close_matches(kind, kinds, n=1)
    meant = f" Did you mean {close[0]}?" if close else ""
    return f"KIND: no runbook {kind!r}.{meant} There are: {', '.join(kinds)}"
