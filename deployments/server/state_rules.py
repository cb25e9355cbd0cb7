"""The room's own rules about states in Prefect's server: what cannot be paused is not, a question is shown, and what
waits keeps the words with which it is cancelled.

They are part of every change of a state, forced ones included: Prefect's pages force what they set, and automations and
bulk requests end here as well. `docs/decisions/0034-a-run-shows-itself.md` says why.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable
from typing import Any, cast
from uuid import uuid4

from fastapi import HTTPException, status
from prefect.input.run_input import keyset_from_base_key
from prefect.server.database import orm_models
from prefect.server.models.flow_run_input import create_flow_run_input
from prefect.server.orchestration.core_policy import (
    BypassCancellingFlowRunsWithNoInfra,
    CoreFlowPolicy,
    MinimalFlowPolicy,
)
from prefect.server.orchestration.rules import FlowRunUniversalTransform, OrchestrationContext
from prefect.server.schemas.core import FlowRunInput, FlowRunPolicy
from prefect.server.schemas.states import State, StateType
from sqlalchemy import select

from opsdb.runs.lookup import short_id
from opsdb.runs.prefect_runs import RUNBOOK_TAG
from opsdb.shown import shown
from opsdb.states import APPROVAL

LANE = "lane"
"""The type of the pools whose workers execute runbooks."""
SCHEMA: dict[str, Any] = {"title": "Approve", "type": "object", "properties": {}}
"""The form beside the question: it asks for nothing."""

POLICIES = (CoreFlowPolicy, MinimalFlowPolicy)
"""By which Prefect sets states that are asked for, and those that are forced."""

Context = OrchestrationContext[orm_models.FlowRun, FlowRunPolicy]


class RefusePause(FlowRunUniversalTransform):
    """Refuse to pause a run that runs, unless its own process asks for it: it would keep running all the same.

    Raises HTTPException, for its words are what both of Prefect's pages show.
    """

    FROM_STATES = frozenset({StateType.RUNNING, StateType.CANCELLING})
    TO_STATES = frozenset({StateType.PAUSED})

    async def before_transition(self, context: Context) -> None:
        """Called by Prefect before a state is set."""
        if not asks(context.proposed_state) and await _is_runbook(context):
            run = short_id(context.run.id)
            raise HTTPException(
                status.HTTP_409_CONFLICT,
                f"run {run} cannot be paused: its step keeps running, whatever is set here. Hint: `ops cancel {run}`, "
                "or Cancel on its page, ends it; pausing the lane keeps further runs from starting",
            )


class ShowQuestion(FlowRunUniversalTransform):
    """Let the dialog that resumes a run show what it asks. It is written with the state, or neither is."""

    FROM_STATES = frozenset({StateType.RUNNING})
    TO_STATES = frozenset({StateType.PAUSED})

    async def before_transition(self, context: Context) -> None:
        """Called by Prefect before a state is set."""
        state = context.proposed_state
        if state is not None and asks(state):
            keyset = cast("dict[str, str]", keyset_from_base_key(f"approval-{uuid4()}"))
            state.state_details.run_input_keyset = keyset

    async def after_transition(self, context: Context) -> None:
        """Called by Prefect in the same transaction."""
        state = context.validated_state
        keyset = state.state_details.run_input_keyset if state is not None and asks(state) else None
        if state is None or not keyset:
            return
        question = textwrap.wrap(shown(state.message or "").replace("`", "'"), 76)
        inputs = {"description": "\n".join(["```", *question, "```"]), "schema": SCHEMA}
        for name, value in inputs.items():
            made = FlowRunInput(flow_run_id=context.run.id, key=keyset[name], value=json.dumps(value))
            await cast(Any, create_flow_run_input)(session=context.session, flow_run_input=made)


class CancelWithReason(BypassCancellingFlowRunsWithNoInfra):
    """Let a run that waits be cancelled at once, as Prefect does, which by itself drops who asked for it, and why."""

    async def reject_transition(self, state: State | None, reason: str) -> None:
        """Called by Prefect's rule with the state that is set instead of Cancelling."""
        asked = self.context.proposed_state
        if state is not None and asked is not None:
            state = state.model_copy(update={"message": asked.message})
        await super().reject_transition(state, reason)


def asks(state: State | None) -> bool:
    """Whether a run's own process set this state, to wait for an approval."""
    return state is not None and state.type == StateType.PAUSED and (state.message or "").startswith(APPROVAL)


def install() -> None:
    """Add the rules to the policies by which Prefect's server of this process sets states; at most once."""
    for policy in POLICIES:
        if RefusePause not in policy.priority():
            policy.priority = staticmethod(_with_ours(policy.priority))  # type: ignore[method-assign]


def _with_ours(theirs: Callable[[], list[Any]]) -> Callable[[], list[Any]]:
    replaced: dict[Any, Any] = {BypassCancellingFlowRunsWithNoInfra: CancelWithReason}
    return lambda: [RefusePause, ShowQuestion, *(replaced.get(rule, rule) for rule in theirs())]


async def _is_runbook(context: Context) -> bool:
    """Whether a lane executes the run: by its queue, or by its tags where the queue was deleted."""
    if RUNBOOK_TAG in context.run.tags:
        return True
    queue, pool = orm_models.WorkQueue, orm_models.WorkPool
    found = await context.session.execute(
        select(pool.type).join(queue, queue.work_pool_id == pool.id).where(queue.id == context.run.work_queue_id)
    )
    return found.scalar_one_or_none() == LANE
