"""What Prefect's events say of the states of runs."""

from __future__ import annotations

from datetime import datetime

from prefect.events import Event

from opsdb.runs.prefect_runs import RUNBOOK_TAG
from opsdb.states import State


def is_runbook_state(event: Event) -> bool:
    """Whether it is a state of a runbook's run."""
    tag = f"prefect.tag.{RUNBOOK_TAG}"
    return "prefect.state-type" in event.resource.root and any(related.id == tag for related in event.related)


def state_of_event(event: Event) -> State:
    """A state-change event carries the state: its own id is the state's id."""
    labels = event.resource.root
    return State(
        id=event.id,
        at=datetime.fromisoformat(labels["prefect.state-timestamp"]),
        type=labels["prefect.state-type"],
        name=labels["prefect.state-name"],
        message=labels.get("prefect.state-message") or None,
    )
