"""Where operators find things in the Prefect UI: every link that the room shows begins here."""

from __future__ import annotations

from uuid import UUID


def run_address(server_address: str, run_id: UUID) -> str:
    """The page of a run. Of Prefect's two UIs only this one keeps the page for somebody who has to log in first."""
    return f"{server_address}/v2/runs/flow-run/{run_id}"


def runs_address(server_address: str) -> str:
    """The page with all runs."""
    return f"{server_address}/v2/runs"
