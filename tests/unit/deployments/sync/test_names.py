"""Which names nobody thought of, and how runs get others."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest.mock import AsyncMock
from uuid import UUID, uuid4

import httpx
import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.utilities.names import generate_slug

from deployments.sync.names import AT_ONCE, Naming, is_made_up
from opsdb.kinds.subjects import name_of_run


def test_names_that_prefect_makes_up_are_known() -> None:
    assert [name for name in (generate_slug(2) for _ in range(2000)) if not is_made_up(name)] == []


@pytest.mark.parametrize("name", ["Awesome-Ajiaco", "Handmade-Ceviche"[:15]])
def test_names_that_the_form_makes_up_are_known(name: str) -> None:
    assert is_made_up(name)


@pytest.mark.parametrize(
    "name",
    [
        "odoo_prod · backup",
        "nightly-prod",
        "brave-lion-2",
        "before-upgrade",
        "Small-change",
        "Awesome-Restoration",
        "brave",
        "-lion",
        "",
        "Brave-lion",
    ],
)
def test_name_that_somebody_thought_of_is_none_of_them(name: str) -> None:
    assert not is_made_up(name)


class Room:
    """Prefect, which refuses some names, and the database."""

    def __init__(self, subject: str) -> None:
        self.subject, self.refused = subject, set[UUID]()
        self.named: list[UUID] = []
        self.written: list[UUID] = []
        client = AsyncMock()
        client.update_flow_run.side_effect = self._update
        self.naming = Naming(client, kind=AsyncMock(return_value="k"), in_database=self._in_database)

    async def _update(self, run_id: UUID, *, name: str) -> None:
        self.named.append(run_id)
        if run_id in self.refused:
            request = httpx.Request("PATCH", "http://prefect")
            raise httpx.HTTPStatusError("409", request=request, response=httpx.Response(409, request=request))

    async def _in_database(self, work: Any, *args: Any) -> Any:
        if work is name_of_run:
            return self.subject
        self.written += args[0]
        return None


def runs(number: int) -> list[FlowRun]:
    return [FlowRun(id=uuid4(), flow_id=uuid4(), name="brave-lion") for _ in range(number)]


def test_as_many_are_named_at_once_as_keep_nothing_back_and_refused_ones_come_last(
    caplog: pytest.LogCaptureFixture,
) -> None:
    room, some = Room("odoo_prod · backup"), runs(AT_ONCE + 3)
    room.refused = {some[0].id}
    asyncio.run(room.naming.name(some))
    assert room.named == [run.id for run in some[:AT_ONCE]]
    assert room.written == room.named[1:]
    left = [some[0], *some[AT_ONCE:]]
    asyncio.run(room.naming.name(left))
    assert room.named[AT_ONCE:] == [run.id for run in (*some[AT_ONCE:], some[0])]
    assert caplog.text.count("keeps the name brave-lion: Prefect refuses another") == 1


def test_run_whose_subject_looks_made_up_is_left_alone() -> None:
    room = Room("brave-lion")
    asyncio.run(room.naming.name(runs(1)))
    assert room.named == []
