"""The runbooks that `benchmarks/lanes.py` runs in both work pools."""

from __future__ import annotations

from flows.engine.runbook import runbook
from flows.engine.step import step


@runbook(deadline_seconds=3600)
def one_step() -> None:
    """The smallest runbook: one shell command that does nothing."""
    step("nothing", "true", timeout=60)


@runbook(deadline_seconds=3600)
def sleeper(seconds: str) -> None:
    """A run that waits. `seconds` stands in the command line of its `sleep`, so its decimals tell runs apart."""
    step("sleep", 'exec sleep "$SECONDS_TO_SLEEP"', timeout=3600, env={"SECONDS_TO_SLEEP": seconds})
