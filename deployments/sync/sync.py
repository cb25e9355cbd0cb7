"""`ops sync`: Prefect's flow runs become rows of `ops.runs`.

Two ways lead here. Events over a WebSocket bring a state within milliseconds, but some are lost: when either side
restarts, or when a queue runs over. The poll compares what Prefect has with what `ops` has and fetches the history of
each run that differs; it starts from a watermark in the database, so that nothing is lost while the sync is down.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import TypeVar
from uuid import UUID

import httpx
from cachetools import LRUCache
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun
from prefect.events import Event
from prefect.events.clients import get_events_subscriber
from prefect.events.filters import EventFilter, EventNameFilter
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from deployments.sync.events import is_runbook_state, state_of_event
from deployments.sync.marks import (
    is_surprising,
    known_facts,
    known_runs,
    read_watermark,
    unfinished_runs,
    write_watermark,
)
from deployments.sync.names import Naming, is_made_up
from deployments.sync.pages import PAGE, in_future, pages
from deployments.sync.queues import restore_queues, without_queue
from deployments.sync.verdicts import Pushed, push_state, read_unpushed
from opsdb.database import GONE, connect, first_line
from opsdb.record.journal import journal_dir
from opsdb.record.recorder import deliver_abandoned
from opsdb.room_locks import Lock, try_lock
from opsdb.runs.deleted import forget_twins, note_deleted
from opsdb.runs.prefect_runs import facts_of, state_of
from opsdb.runs.runs import RunFacts, apply_states, write_names
from opsdb.runs.sessions import settle_sessions
from opsdb.runs.sweeper import sweep
from opsdb.runs.totals import BATCH, FOLD_SECONDS, fold_deltas
from opsdb.settings import Settings
from opsdb.states import State

log = logging.getLogger(__name__)
T = TypeVar("T")

OVERLAP = timedelta(seconds=10)
"""How late a state may be committed in Prefect's database after the time it carries."""
DEEP_OVERLAP = timedelta(minutes=15)
"""How long after its end a run's terminal state may be rewritten without us hearing the event."""
DEEP_EVERY_SECONDS = 60.0


Beside = Callable[[PrefectClient, Engine], Awaitable[None]]
"""Other work that runs as long as the sync, over its connections."""


async def sync(settings: Settings, *, beside: Mapping[str, Beside] | None = None) -> None:
    """Follow Prefect until cancelled, with the work `beside` it. Outages of Prefect or the database are waited out."""
    engine = connect(settings, application="sync")
    try:
        # what the sync asks of Prefect it asks again by itself; with more retries it would sleep for minutes in between
        with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 1}):
            await _follow(settings, engine, beside or {})
    finally:
        engine.dispose()


async def _follow(settings: Settings, engine: Engine, beside: Mapping[str, Beside]) -> None:
    async with get_client() as client, asyncio.TaskGroup() as tasks:
        timings = settings.timings
        follower = Follower(client, engine, settings)

        def forever(name: str, work: Callable[[], Awaitable[None]]) -> None:
            tasks.create_task(_forever(name, work, longest_pause=timings.backoff))

        forever("events", follower.follow_events)
        forever("poll", follower.keep_polling)
        forever("sweep", follower.keep_sweeping)
        forever("push", follower.keep_pushing)
        forever("totals", lambda: _fold_totals(engine))
        forever("journals", lambda: _deliver_journals(settings, engine))
        for name, work in beside.items():
            forever(name, partial(work, client, engine))


class Follower:
    """Brings what Prefect says of runs into the database."""

    def __init__(self, client: PrefectClient, engine: Engine, settings: Settings) -> None:
        self._client = client
        self._engine = engine
        self._settings = settings
        self._timings = settings.timings
        self._facts: LRUCache[UUID, RunFacts] = LRUCache(2000)
        self._kinds: LRUCache[UUID, str] = LRUCache(500)
        self._naming = Naming(client, kind=self._kind, in_database=self._in_database)

    async def follow_events(self) -> None:
        """Apply each state change of a runbook as its event arrives."""
        wanted = EventFilter(event=EventNameFilter(prefix=["prefect.flow-run."]))
        async with get_events_subscriber(filter=wanted, reconnection_attempts=0) as events:
            async for event in events:
                if is_runbook_state(event):
                    await self._apply_event(event)

    async def keep_polling(self) -> None:
        """Close the gaps in the events again and again, and look further back once a minute."""
        loop = asyncio.get_running_loop()
        deep_at = loop.time()
        while True:
            deep = loop.time() >= deep_at
            await self.poll(overlap=DEEP_OVERLAP if deep else OVERLAP)
            if deep:
                deep_at = loop.time() + DEEP_EVERY_SECONDS
            await asyncio.sleep(self._timings.poll)

    async def keep_sweeping(self) -> None:
        """End what nobody else will end. Waits for the database alone: Prefect may be away."""
        while True:
            for fence in await self._in_database(sweep, self._settings):
                log.warning("run %s fenced: %s", fence.run_id, fence.reason)
            await self._in_database(settle_sessions)
            await asyncio.sleep(self._timings.sweep)

    async def keep_pushing(self) -> None:
        """Bring Prefect what the sweeps decided."""
        while True:
            if await self._in_database(read_unpushed):
                await self._push_states()
            await asyncio.sleep(self._timings.sweep)

    async def _push_states(self) -> None:
        """Tell Prefect what it does not know, while no other sync does."""
        db = await asyncio.to_thread(self._engine.connect)
        try:
            if not await asyncio.to_thread(try_lock, db, Lock.VERDICTS):
                return
            for push in await asyncio.to_thread(read_unpushed, db):
                try:
                    pushed = await push_state(self._client, push)
                    if pushed is Pushed.DELETED:
                        await self._in_database(note_deleted, push.run_id)
                    elif pushed is Pushed.MISSED:
                        await self._apply_history(await self._client.read_flow_run(push.run_id), is_known=True)
                except (
                    httpx.HTTPStatusError,
                    ObjectNotFound,
                ) as error:  # one run that Prefect refuses must not keep back the others
                    log.error("run %s: Prefect refused its state: %s", push.run_id, first_line(error))  # noqa: TRY400
        finally:
            await asyncio.to_thread(db.close)  # and with it the lock

    async def poll(self, *, overlap: timedelta) -> None:
        """Apply what Prefect has and `ops` has not: of unfinished runs, and of those that ended since the watermark."""
        ended_until = watermark = await self._in_database(read_watermark)
        unseen = set(await self._in_database(unfinished_runs))
        made_up: list[FlowRun] = []
        async for page in pages(self._client, ended_after=watermark - overlap):
            ended_until = max([ended_until, *(run.end_time for run in page if run.end_time)])
            await self._apply_differing(page)
            made_up += [run for run in page if is_made_up(run.name)]
        async for page in pages(self._client, ended_after=None):
            if lost := [run for run in page if without_queue(run)]:
                await restore_queues(self._client, self._engine, self._settings, lost)
            await self._apply_differing([run for run in page if not in_future(run)])
            made_up += [run for run in page if is_made_up(run.name)]
            unseen -= {run.id for run in page}
        await self._look_for(sorted(unseen))
        await self._in_database(forget_twins)
        await self._in_database(partial(write_watermark, at=ended_until, outage_seconds=self._timings.prefect_outage))
        await self._naming.name(made_up)

    async def _apply_differing(self, flow_runs: list[FlowRun]) -> None:
        known = await self._in_database(known_runs, [run.id for run in flow_runs])
        renamed = {run.id: run.name for run in flow_runs if known.get(run.id, (None, run.name))[1] != run.name}
        if renamed:
            await self._in_database(write_names, renamed)
        for flow_run in flow_runs:
            if flow_run.state_id is not None and known.get(flow_run.id, (None,))[0] != flow_run.state_id:
                await self._apply_history(flow_run, is_known=flow_run.id in known)

    async def _apply_history(self, flow_run: FlowRun, *, is_known: bool) -> None:
        facts = await self._facts_of(flow_run, is_known=is_known)
        if facts is not None:
            states = await self._client.read_flow_run_states(flow_run.id)
            await self._apply(facts, [state_of(state) for state in states])

    async def _look_for(self, ids: Sequence[UUID]) -> None:
        """Runs that are unfinished here and not among Prefect's: they just ended, lost their tag, or were deleted."""
        for start in range(0, len(ids), PAGE):
            asked = ids[start : start + PAGE]
            found = await self._client.read_flow_runs(
                flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=list(asked))), limit=PAGE
            )
            await self._apply_differing(found)
            for run_id in set(asked) - {run.id for run in found}:
                await self._in_database(note_deleted, run_id)

    async def _apply_event(self, event: Event) -> None:
        run_id, state = UUID(event.resource.id.removeprefix("prefect.flow-run.")), state_of_event(event)
        facts, flow_run = self._facts.get(run_id), None
        surprising = await self._in_database(is_surprising, run_id, state)
        if facts is None or surprising or state.type == "SCHEDULED":  # the event does not say for when
            try:
                flow_run = await self._client.read_flow_run(run_id)
            except ObjectNotFound:
                return  # deleted meanwhile
            if surprising:
                await self._apply_history(flow_run, is_known=True)
                return
            facts = await self._facts_of(flow_run, is_known=False)
            if facts is None or in_future(flow_run):
                return  # the poll names those that are planned
            self._facts[run_id] = facts
            if flow_run.state is not None and flow_run.state.id == state.id:
                state = state_of(flow_run.state)
        await self._apply(facts, [state])
        if flow_run is not None:
            await self._naming.name([flow_run])

    async def _facts_of(self, flow_run: FlowRun, *, is_known: bool) -> RunFacts | None:
        """What does not change of a run; None for one of no lane. What is recorded stays, whatever its tags are now."""
        facts = facts_of(flow_run, kind=await self._kind(flow_run))
        return facts or (await self._in_database(known_facts, flow_run.id) if is_known else None)

    async def _kind(self, flow_run: FlowRun) -> str:
        if flow_run.flow_id not in self._kinds:
            self._kinds[flow_run.flow_id] = (await self._client.read_flow(flow_run.flow_id)).name
        return self._kinds[flow_run.flow_id]

    async def _apply(self, facts: RunFacts, states: list[State]) -> None:
        try:
            await self._in_database(lambda db: apply_states(db, facts=facts, states=states))
        except GONE:
            raise
        except DBAPIError as error:  # one run that the database refuses must not keep back the others
            log.error("run %s sync: refused: %s", facts.id, first_line(error))  # noqa: TRY400  # the trace holds values

    async def _in_database(self, work: Callable[..., T], *args: object) -> T:
        def transaction() -> T:
            with self._engine.begin() as db:
                return work(db, *args)

        return await asyncio.to_thread(transaction)


async def _deliver_journals(settings: Settings, engine: Engine) -> None:
    while True:
        emptied = await asyncio.to_thread(deliver_abandoned, engine, journal_dir(settings))
        if emptied:
            log.info("delivered the records of %d run processes that could not", emptied)
        await asyncio.sleep(settings.timings.journals)


async def _fold_totals(engine: Engine) -> None:
    def fold() -> int:
        with engine.begin() as db:
            return fold_deltas(db)

    while True:
        while await asyncio.to_thread(fold) == BATCH:
            pass
        await asyncio.sleep(FOLD_SECONDS)


async def _forever(name: str, work: Callable[[], Awaitable[None]], *, longest_pause: float) -> None:
    """Run the work again whenever it ends; after an error, wait longer each time while it keeps failing."""
    shortest = longest_pause / 20
    wait, loop = shortest, asyncio.get_running_loop()
    while True:
        began = loop.time()
        try:
            await work()
        except Exception as error:  # whatever it was, the sync must continue
            wait = shortest if loop.time() - began > 60 else min(longest_pause, wait * 2)
            log.warning("sync %s: %s: %s; again in %.1f s", name, type(error).__name__, first_line(error), wait)
        await asyncio.sleep(wait)
