"""Prefect's inner names that the lane worker stands on, all in this file.

A test names which of them a new version of Prefect has broken. Beside these, the lane worker overrides and calls the
methods of `BaseWorker` in `WORKER_METHODS` and uses the attributes in `WORKER_ATTRIBUTES`.
"""

from __future__ import annotations

import functools
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, cast
from uuid import UUID

import httpx
from prefect import Flow, flow_engine, get_client, results
from prefect._internal import control_listener
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.engine import handle_engine_signals
from prefect.events import related
from prefect.exceptions import ObjectNotFound
from prefect.flow_engine import run_flow
from prefect.flows import load_flow_from_entrypoint
from prefect.logging.loggers import flow_run_logger
from prefect.settings import get_current_settings
from prefect.states import Failed
from prefect.types._datetime import now

from opsdb.processes import exit_codes

WORKER_METHODS = (
    "_submit_run",
    "_cancel_run",
    "_get_scheduled_flow_runs",
    "_sync_and_initialize",
    "_release_limit_slot",
)
WORKER_ATTRIBUTES = (
    "_submitting_flow_run_ids",
    "_cancelling_observer",
    "_has_successfully_synced",
    "_work_pool",
    "_work_pool_name",
)

__all__ = ["WORKER_ATTRIBUTES", "WORKER_METHODS", "Related", "execute_flow", "mark_cancelled"]


@dataclass(frozen=True)
class Related:
    """Something that the events of a run name as related to it: its flow, deployment, queue or pool."""

    kind: str
    id: UUID
    name: str
    tags: tuple[str, ...] = ()


def execute_flow(entrypoint: str, flow_run: FlowRun, known: Iterable[Related], *, begins: Callable[[], None]) -> None:
    """Load the flow and run it in this process, as `python -m prefect.engine` would. Ends the process on signals.

    A runbook that can't be loaded fails its run. What is `known` of the run is not asked of the server again. `begins`
    is called when the run is Running, before the runbook's first line. A run that was deleted in Prefect is not begun;
    one that has begun continues. Either way the exit code says so.
    """
    _spare_questions(known)
    deleted = _outlive_deletion()
    # the room's own heartbeat takes its place; Prefect's costs up to 1 s at the end of every run
    get_current_settings().flows.heartbeat_frequency = None
    with handle_engine_signals(flow_run.id):
        logger = flow_run_logger(flow_run)
        try:
            flow: Flow[..., Any] = load_flow_from_entrypoint(entrypoint, use_placeholder_flow=False)
        except Exception as error:
            logger.exception("the runbook %s could not be loaded", entrypoint)
            reason = f"the runbook {entrypoint} could not be loaded: {type(error).__name__}: {error}"
            with get_client(sync_client=True) as client:
                client.set_flow_run_state(flow_run.id, Failed(message=reason), force=True)
            return
        _call_first(flow, begins)
        run_flow(flow, flow_run=flow_run, return_type="state", error_logger=cast(logging.Logger, logger))
    if deleted.is_set():
        sys.exit(exit_codes.DELETED)


def _outlive_deletion() -> threading.Event:
    """Let the engine take the states of a deleted run for set, once it runs. The event says that this was needed.

    A run that is deleted before that ends here: nothing was begun, and there is nobody to tell.
    """
    deleted, engine = threading.Event(), cast(Any, flow_engine)
    propose, update = engine.propose_state_sync, SyncPrefectClient.update_flow_run

    def propose_state(client: Any, state: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return propose(client, state, *args, **kwargs)
        except ObjectNotFound:
            if state.is_running():
                os._exit(exit_codes.DELETED)
            deleted.set()
            return state

    def update_flow_run(client: SyncPrefectClient, *args: Any, **kwargs: Any) -> Any:
        try:
            return update(client, *args, **kwargs)
        except httpx.HTTPStatusError as error:
            if error.response.status_code == httpx.codes.NOT_FOUND:
                os._exit(exit_codes.DELETED)
            raise

    engine.propose_state_sync = propose_state
    cast(Any, SyncPrefectClient).update_flow_run = update_flow_run
    return deleted


def _call_first(flow: Flow[..., Any], begins: Callable[[], None]) -> None:
    runbook = flow.fn

    @functools.wraps(runbook)  # Prefect reads its parameters from it
    def begun(*args: Any, **kwargs: Any) -> Any:
        begins()
        return runbook(*args, **kwargs)

    flow.fn = begun  # a hook of Prefect's would write a line into the log of each run


def mark_cancelled(_flow_run_id: UUID | None = None) -> None:
    """Let the engine take the SIGTERM that follows for a cancellation, not for a crash."""
    control_listener._set_intent("cancel")


def _spare_questions(known: Iterable[Related]) -> None:
    """Answer in this process what Prefect would ask its server in every run: measured, 13 of 20 requests."""
    cached_at: Any = now("UTC")  # Prefect types it as a datetime, its cache as one of its own
    for thing in known:
        key = thing.name if thing.kind == "work-pool" else thing.id
        related.RESOURCE_CACHE[f"{thing.kind}.{key}"] = ({"kind": thing.kind, "object": cast(Any, thing)}, cached_at)
    # runbooks keep no results in Prefect, so where the server would keep them is of no interest
    results._read_server_default_result_storage_block_id = lambda: None
    # a thread with a WebSocket of its own that waits for somebody to suspend the run. Resuming would execute the
    # runbook from its start, which is not for a deploy: a run is cancelled, or waits at a step of its own
    cast(Any, flow_engine).observe_flow_run_suspension = lambda *_: nullcontext()
