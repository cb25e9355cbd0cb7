"""Whether a part of the room does its work. Each check answers within about a second and never raises."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime

import httpx
import psycopg

from opsdb.listener import UntrustedListenerError, check_listener, guard
from opsdb.watch import Mark

LANE_POOLS = ("lane-a", "lane-b", "lane-c", "lane-d")
SYNC_SECONDS = 10.0
ALERTER_SECONDS = 60.0
"""Within which an alerter looks at the rules a dozen times; the same as in exporter/rules/alerting.yml."""


def postgres_answers(url: str) -> bool:
    """Whether the server lets us in."""
    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.Error:
        return False
    return True


def sync_is_current(url: str) -> bool:
    """Whether `ops sync` left its mark within the last 10 s."""
    return _mark_is_fresh(url, Mark.SYNC, seconds=SYNC_SECONDS)


def alerter_works(url: str, *, since: datetime | None = None) -> bool:
    """Whether an alerter looked at the rules within the last 60 s, and after `since`."""
    seconds = ALERTER_SECONDS if since is None else (datetime.now(UTC) - since).total_seconds()
    return _mark_is_fresh(url, Mark.ALERTER, seconds=min(ALERTER_SECONDS, seconds))


def _mark_is_fresh(url: str, mark: Mark, *, seconds: float) -> bool:
    """Whether a part left its mark within so many seconds, by the database's clock."""
    try:
        with psycopg.connect(url, connect_timeout=2, options="-c statement_timeout=1000") as db:
            row = db.execute(
                "SELECT updated_at > clock_timestamp() - make_interval(secs => %s) FROM ops.sync_marks WHERE name = %s",
                [seconds, mark.value],
            ).fetchone()
    except psycopg.Error:
        return False
    return row is not None and bool(row[0])


def exporter_is_ready(url: str) -> bool:
    """Whether the metrics can be read, say that they are complete, and are not another user's."""
    where = httpx.URL(url)
    try:
        check_listener(where.port or 80, address=where.host)
    except UntrustedListenerError:
        return False
    try:  # the certificate need not be made for the address by which this host knows itself
        with httpx.Client(verify=False, timeout=1.5, trust_env=False) as http:  # noqa: S501
            return http.get(f"{url}/-/ready").status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


class PrefectApi:
    """The little of Prefect's REST API that the supervisor asks. It does without Prefect's client (1.5 s to import)."""

    def __init__(self, url: str, auth_string: str) -> None:
        user, _, password = auth_string.partition(":")
        guard(httpx.URL(url).port or 80)
        self._client = str(uuid.uuid4())
        # no proxy from the environment: the auth string stays on loopback
        self._http = httpx.Client(
            base_url=f"{url}/api", auth=(user, password), timeout=httpx.Timeout(1.5), trust_env=False
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

    def workers_online(self, pools: Sequence[str] = LANE_POOLS, *, since: datetime) -> bool:
        """Whether every pool has an online worker that was heard of after `since`."""
        try:
            return all(self._has_worker(pool, since) for pool in pools)
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            return False

    def _has_worker(self, pool: str, since: datetime) -> bool:
        path = f"/work_pools/{pool}/workers/filter"
        answer = self._post(path)
        if answer.status_code == httpx.codes.FORBIDDEN:  # the token expired, after an hour by default
            self._token = None
            answer = self._post(path)
        return answer.status_code == httpx.codes.OK and any(
            worker["status"] == "ONLINE" and datetime.fromisoformat(worker["last_heartbeat_time"]) >= since
            for worker in answer.json()
        )

    def _post(self, path: str) -> httpx.Response:
        if self._token is None:
            answer = self._http.get("/csrf-token", params={"client": self._client})
            self._token = str(answer.raise_for_status().json()["token"])
        headers = {"Prefect-Csrf-Token": self._token, "Prefect-Csrf-Client": self._client}
        return self._http.post(path, json={}, headers=headers)
