"""Idempotency keys against a real Prefect server."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectAlreadyExists

from deployments.server.runs import PrefectServer, Started
from deployments.server.startable import Startable
from opsdb.errors import UsageError
from opsdb.runs.lookup import short_id
from opsdb.tables import Lane

Start = Callable[..., Started]


@pytest.fixture
def lanes(client: SyncPrefectClient) -> dict[Lane, Startable]:
    """A kind of this test alone, in two lanes."""
    kind = f"kind-{uuid4()}"
    flow = client.create_flow_from_name(kind)
    found = {}
    for lane in (Lane.A, Lane.B):
        with suppress(ObjectAlreadyExists):
            client.create_work_pool(WorkPoolCreate(name=lane.pool, type="process"))
        made = client.create_deployment(
            flow, lane.pool, work_pool_name=lane.pool, entrypoint="x.y", tags=["runbook"], parameters={"keep_days": 7}
        )
        found[lane] = Startable(
            id=made, flow_id=flow, kind=kind, lane=lane, description="", schema={}, defaults={"keep_days": 7}
        )
    return found


@pytest.fixture
def start(client: SyncPrefectClient, lanes: dict[Lane, Startable]) -> Start:
    """Start a run with the key `k`; by default the same one again."""
    session = uuid4()

    def started(*, lane: Lane = Lane.A, **changes: Any) -> Started:
        request = {
            "params": {"odoo_db": "shop"},
            "priority": 5,
            "session_id": session,
            "idempotency_key": "k",
            "message": "",
        }
        return PrefectServer(client).start(lanes[lane], **{**request, **changes})

    return started


def test_key_gives_the_run_of_then_for_the_same_request(start: Start) -> None:
    first, again = start(), start()
    assert (first.new, again.new, again.id) == (True, False, first.id)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"priority": 20}, "priority 5 instead of 20"),
        ({"session_id": None}, "session "),
        ({"session_id": UUID(int=1)}, "session "),
        ({"params": {"odoo_db": "other"}}, "another value of -p odoo_db"),
        ({"params": {"odoo_db": "shop", "verify": None}}, "another value of -p verify"),
        ({"lane": Lane.B}, "lane A instead of B"),
    ],
)
def test_key_with_another_request_is_refused_with_what_differs_and_the_run_of_then(
    start: Start, changes: dict[str, Any], words: str
) -> None:
    first = start()
    with pytest.raises(UsageError) as refused:
        start(**changes)
    assert f"started run {short_id(first.id)} before, with {words}" in str(refused.value)
    assert f"`ops show {short_id(first.id)}`" in str(refused.value)


def test_key_that_was_used_without_a_session_is_refused_with_one(start: Start) -> None:
    start(session_id=None)
    with pytest.raises(UsageError, match="before, with no session: see"):
        start()


def test_of_two_at_once_one_is_new(client: SyncPrefectClient, lanes: dict[Lane, Startable]) -> None:
    def started(priority: int) -> Started | UsageError:
        with get_client(sync_client=True) as own:
            try:
                return PrefectServer(own).start(
                    lanes[Lane.A], params={}, priority=priority, session_id=None, idempotency_key="race", message=""
                )
            except UsageError as error:
                return error

    with ThreadPoolExecutor(4) as pool:  # Prefect's settings of this thread stand in its context
        asked = [pool.submit(copy_context().run, started, 0) for _ in range(4)]
        same = [one.result() for one in asked]
        assert sorted(one.new for one in same if isinstance(one, Started)) == [False, False, False, True]
        refused = [one for one in map(started, [1, 2]) if isinstance(one, UsageError)]
    assert ["priority 0 instead of" in str(one) for one in refused] == [True, True]


def test_run_that_was_deleted_frees_its_key(client: SyncPrefectClient, start: Start) -> None:
    first = start()
    client.delete_flow_run(first.id)
    again = start(priority=20)
    assert (again.new, again.id != first.id) == (True, True)
