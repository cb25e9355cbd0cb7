"""Prefect's REST API as anybody with the room's auth string reaches it, without Prefect's client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import httpx

from tests.acceptance.room.desk import Desk
from tests.support.waiting import wait_for

TERMINAL = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


class Api:
    """One session with the Prefect server of a room."""

    def __init__(self, desk: Desk) -> None:
        user, _, password = auth_string(desk).partition(":")
        url = f"http://127.0.0.1:{desk.ports[0]}/api"
        self._http = httpx.Client(base_url=url, auth=(user, password), timeout=20, trust_env=False)
        client = str(uuid4())
        token = self._http.get("/csrf-token", params={"client": client}).raise_for_status().json()["token"]
        self._http.headers.update({"Prefect-Csrf-Token": token, "Prefect-Csrf-Client": client})

    def get(self, path: str) -> Any:
        """What stands there."""
        return self._http.get(path).raise_for_status().json()

    def post(self, path: str, **body: Any) -> Any:
        """What the server answers."""
        return self._http.post(path, json=body).raise_for_status().json()

    def delete(self, path: str) -> None:
        """Take away what stands there."""
        self._http.delete(path).raise_for_status()

    def patch(self, path: str, **body: Any) -> None:
        """Change what stands there."""
        self._http.patch(path, json=body).raise_for_status()

    def refusal(self, path: str, **body: Any) -> httpx.Response:
        """An answer that may be an error."""
        return self._http.post(path, json=body)

    def deployment(self, name: str) -> dict[str, Any]:
        """A deployment by `kind/lane-x`."""
        found: dict[str, Any] = self.get(f"/deployments/name/{name}")
        return found

    @contextmanager
    def schedule(self, deployment: str, parameters: dict[str, Any], **schedule: Any) -> Iterator[None]:
        """Give a deployment a schedule as the UI does, for a while."""
        path = f"/deployments/{self.deployment(deployment)['id']}/schedules"
        answer = self._http.post(path, json=[{"active": True, "schedule": schedule, "parameters": parameters}])
        (made,) = answer.raise_for_status().json()
        try:
            yield
        finally:
            self._http.delete(f"{path}/{made['id']}").raise_for_status()

    def start(self, deployment: str, **parameters: Any) -> str:
        """Start a run as the UI does. Returns its id."""
        path = f"/deployments/{self.deployment(deployment)['id']}/create_flow_run"
        return str(self.post(path, parameters=parameters, state={"type": "SCHEDULED"})["id"])

    def states(self, ids: list[str]) -> dict[str, str]:
        """The state types of runs."""
        runs = self.post("/flow_runs/filter", flow_runs={"id": {"any_": ids}}, limit=200)
        return {run["id"]: run["state_type"] for run in runs}

    def wait_terminal(self, run_id: str, *, seconds: float = 90) -> dict[str, Any]:
        """A run when it is over."""

        def over() -> dict[str, Any] | None:
            run: dict[str, Any] = self.get(f"/flow_runs/{run_id}")
            return run if run["state_type"] in TERMINAL else None

        run = wait_for(over, seconds=seconds, what=f"run {run_id} is over")
        assert run is not None
        return run


def auth_string(desk: Desk) -> str:
    """What the Prefect UI asks for."""
    return str(json.loads((desk.home / "secrets.json").read_text())["prefect_auth_string"])
