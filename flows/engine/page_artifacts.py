"""The artifacts of a run in Prefect: each is made once, and written again as it changes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

import httpx

AGAIN_SECONDS = 5.0
"""How long an artifact stays as it is, at least, while the run continues."""

REFUSED = frozenset({400, 409, 413, 422})
"""Answers of Prefect to what it will never take."""


Requests = Callable[..., httpx.Response]
"""How Prefect is asked: its client's `request`. Raises httpx.HTTPError, also for an answer that is an error."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """What one shows: Markdown as text, a table as JSON text, progress as percent."""

    key: str
    type: Literal["markdown", "table", "progress"]
    data: str | float
    description: str = ""


class Artifacts:
    """Those of one run. An attempt writes those of an earlier one again: they are found by run and key."""

    def __init__(self, run_id: UUID | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._run_id = run_id
        self._clock = clock
        self._wanted: dict[str, Artifact | None] = {}
        self._sent: dict[str, Artifact | None] = {}
        self._sent_at: dict[str, float] = {}
        self._ids: dict[str, str] | None = None

    def none_yet(self) -> None:
        """Prefect has none of this run: nobody made one before."""
        self._ids = {}

    def put(self, artifact: Artifact) -> None:
        """Show this one in place of what is shown under its key."""
        self._wanted[artifact.key] = artifact

    def remove(self, key: str) -> None:
        """Show none under this key, also of an earlier attempt."""
        self._wanted[key] = None

    @property
    def unsent(self) -> bool:
        """Whether Prefect has something else than what is to be shown."""
        return self._sent != self._wanted

    def send(self, request: Requests, *, at_once: bool) -> None:
        """Write what changed, and not just before unless `at_once`. Raises httpx.HTTPError."""
        for key, wanted in list(self._wanted.items()):
            due = at_once or self._clock() - self._sent_at.get(key, -AGAIN_SECONDS) >= AGAIN_SECONDS
            if due and (key not in self._sent or self._sent[key] != wanted):
                self._sent_at[key] = self._clock()
                try:
                    self._write(request, key, wanted)
                except httpx.HTTPStatusError as error:
                    if error.response.status_code not in REFUSED:
                        raise
                self._sent[key] = wanted

    def _write(self, request: Requests, key: str, artifact: Artifact | None) -> None:
        if self._ids is None:
            self._ids = self._read_ids(request)
        known = self._ids.get(key)
        try:
            if artifact is None:
                if known:
                    request("DELETE", f"/artifacts/{known}")
                    del self._ids[key]
            elif known:
                values = {"data": artifact.data, "description": artifact.description}
                request("PATCH", f"/artifacts/{known}", json=values)
            else:
                values = {"key": key, "type": artifact.type, "data": artifact.data}
                about = {"description": artifact.description, "flow_run_id": str(self._run_id)}
                self._ids[key] = request("POST", "/artifacts/", json=values | about).json()["id"]
        except Exception:
            self._ids = None  # what Prefect did, it will say
            raise

    def _read_ids(self, request: Requests) -> dict[str, str]:
        wanted = {"flow_run_id": {"any_": [str(self._run_id)]}}
        found = request("POST", "/artifacts/filter", json={"artifacts": wanted, "limit": 200}).json()
        return {one["key"]: one["id"] for one in found if one.get("key")}
