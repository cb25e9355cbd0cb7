"""An exporter on a port of its own, and what it says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import httpx
import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from exporter.metrics.collector import Room
from exporter.metrics.scrape import Scraper
from exporter.metrics.server import MetricsServer
from opsdb.settings import Settings
from tests.support.children import free_port

NOW = datetime.now(UTC)


class Scrape:
    """What one scrape said."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.families = {family.name: family for family in text_string_to_metric_families(text)}
        self._values = {
            (sample.name, *sorted(sample.labels.items())): sample.value
            for family in self.families.values()
            for sample in family.samples
        }

    def __len__(self) -> int:
        return len(self._values)

    def __call__(self, name: str, **labels: str) -> float | None:
        """The value of a series; None when it is not there."""
        return self._values.get((name, *sorted(labels.items())))


class Served:
    """A running exporter."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.url = f"http://127.0.0.1:{settings.exporter_port}"
        self._tls = httpx.create_ssl_context(trust_env=False)  # making one takes longer than an answer

    def get(self, path: str = "/metrics", **headers: str) -> httpx.Response:
        return httpx.get(f"{self.url}{path}", headers=headers, timeout=20, trust_env=False, verify=self._tls)

    def scrape(self) -> Scrape:
        answer = self.get()
        assert answer.status_code == 200
        return Scrape(answer.text)


@contextmanager
def serving(settings: Settings, room: Room | None = None, **changes: Any) -> Iterator[Served]:
    """Serve metrics until the end of the block."""
    changed = settings.model_copy(update={"exporter_port": free_port(), **changes})
    scraper = Scraper(changed.ops_url, room or Room())
    try:
        with MetricsServer(changed, scraper):
            yield Served(changed)
    finally:
        scraper.close()


@pytest.fixture
def served(settings: Settings) -> Iterator[Served]:
    with serving(settings, Room(kinds=("never_run",))) as exporter:
        yield exporter


@pytest.fixture
def db(settings: Settings) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(settings.ops_url, autocommit=True) as connection:
        connection.execute("INSERT INTO ops.sessions (id, name) VALUES (gen_random_uuid(), 'tests')")
        yield connection


Insert = Callable[..., None]

INSERT = """
INSERT INTO ops.runs (id, session_id, kind, lane, status, attempt, params, result, created_at, claimed_at, started_at,
                      heartbeat_at, finished_at, state_id, state_at, outcome)
SELECT gen_random_uuid(), (SELECT id FROM ops.sessions LIMIT 1), %(kind)s, %(lane)s, %(status)s, %(attempt)s,
       %(params)s::jsonb, %(result)s::jsonb,
       now() - make_interval(secs => %(created)s), now() - make_interval(secs => %(claimed)s),
       now() - make_interval(secs => %(started)s), now() - make_interval(secs => %(heartbeat)s),
       now() - make_interval(secs => %(finished)s), gen_random_uuid(), now() - make_interval(secs => %(created)s),
       %(outcome)s
FROM generate_series(1, %(count)s)
"""


@pytest.fixture
def insert(db: psycopg.Connection[Any]) -> Insert:
    """Inserts runs; times are seconds ago, None for never."""

    def run(kind: str, lane: str, status: str, *, count: int = 1, **seconds_ago: Any) -> None:
        given: dict[str, Any] = {"created": 100, "claimed": None, "started": None, "heartbeat": None, "finished": None}
        given |= {"params": "{}", "result": None, "attempt": 1}
        given["outcome"] = status if status in ("succeeded", "failed") else None
        given |= seconds_ago
        db.execute(INSERT, {"kind": kind, "lane": lane, "status": status, "count": count, **given})

    return run
