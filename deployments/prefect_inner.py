"""Prefect's inner names that the lane worker stands on, all in this file.

A test names which of them a new version of Prefect has broken. Beside these, the lane worker overrides and calls the
methods of `BaseWorker` in `WORKER_METHODS` and uses the attributes in `WORKER_ATTRIBUTES`.
"""

from __future__ import annotations

import logging
from typing import Any, cast
from uuid import UUID

from prefect import Flow
from prefect._internal import control_listener
from prefect.client.schemas.objects import FlowRun
from prefect.context import refresh_global_settings_context
from prefect.engine import handle_engine_signals
from prefect.flow_engine import run_flow
from prefect.flows import load_flow_from_entrypoint
from prefect.logging.loggers import flow_run_logger
from prefect.settings import get_current_settings

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
    "_prefetch_seconds",
    "_work_pool_name",
)

__all__ = ["WORKER_ATTRIBUTES", "WORKER_METHODS", "execute_flow", "mark_cancelled"]


def execute_flow(entrypoint: str, flow_run: FlowRun) -> None:
    """Load the flow and run it in this process, as `python -m prefect.engine` would. Ends the process on signals."""
    refresh_global_settings_context()
    # the room's own heartbeat takes its place; Prefect's costs up to 1 s at the end of every run
    get_current_settings().flows.heartbeat_frequency = None
    with handle_engine_signals(flow_run.id):
        logger = flow_run_logger(flow_run)
        try:
            flow: Flow[..., Any] = load_flow_from_entrypoint(entrypoint, use_placeholder_flow=False)
        except Exception:
            logger.exception("the runbook %s could not be loaded", entrypoint)
            raise
        run_flow(flow, flow_run=flow_run, return_type="state", error_logger=cast(logging.Logger, logger))


def mark_cancelled(_flow_run_id: UUID | None = None) -> None:
    """Let the engine take the SIGTERM that follows for a cancellation, not for a crash."""
    control_listener._set_intent("cancel")
