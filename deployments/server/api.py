"""The little of Prefect's REST API that is asked without Prefect's client, which takes 1.5 s to import."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import httpx

from opsdb.kinds.names import POOLS
from opsdb.listener import guard

PAGE = 200


class PrefectApi:
    """A room's Prefect server, asked without Prefect's client."""

    def __init__(self, url: str, auth_string: str, *, seconds: float = 1.5) -> None:
        user, _, password = auth_string.partition(":")
        guard(httpx.URL(url).port or 80)
        self._client = str(uuid.uuid4())
        # no proxy from the environment: the auth string stays on loopback
        self._http = httpx.Client(
            base_url=f"{url}/api", auth=(user, password), timeout=httpx.Timeout(seconds), trust_env=False
        )
        self._token: str | None = None

    def answers(self) -> bool:
        """Whether the server is up and lets us in with our auth string."""
        try:
            return (
                self._http.get("/health").status_code == httpx.codes.OK
                and self._http.get("/admin/version").status_code == httpx.codes.OK
            )
        except httpx.HTTPError:
            return False

    def workers_online(self, pools: Sequence[str] = POOLS, *, since: datetime) -> bool:
        """Whether every pool has an online worker with a heartbeat after `since`."""
        try:
            return all(self._has_worker(pool, since) for pool in pools)
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            return False

    def _has_worker(self, pool: str, since: datetime) -> bool:
        answer = self._post(f"/work_pools/{pool}/workers/filter")
        return answer.status_code == httpx.codes.OK and any(
            worker["status"] == "ONLINE" and datetime.fromisoformat(worker["last_heartbeat_time"]) >= since
            for worker in answer.json()
        )

    def read_all(self, name: str) -> Iterator[dict[str, Any]]:
        """All of a kind of thing, as `deployments`: page by page. Raises httpx.HTTPError."""
        for offset in itertools.count(0, PAGE):
            answer = self._post(f"/{name}/filter", limit=PAGE, offset=offset)
            page = answer.raise_for_status().json()
            yield from page
            if len(page) < PAGE:
                return

    def _post(self, path: str, **content: Any) -> httpx.Response:
        answer = self._post_once(path, content)
        if answer.status_code == httpx.codes.FORBIDDEN:  # the token expired, after an hour by default
            self._token = None
            answer = self._post_once(path, content)
        return answer

    def _post_once(self, path: str, content: dict[str, Any]) -> httpx.Response:
        if self._token is None:
            answer = self._http.get("/csrf-token", params={"client": self._client})
            self._token = str(answer.raise_for_status().json()["token"])
        headers = {"Prefect-Csrf-Token": self._token, "Prefect-Csrf-Client": self._client}
        return self._http.post(path, json=content, headers=headers)
