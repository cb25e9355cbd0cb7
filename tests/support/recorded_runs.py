"""Runs as Prefect reports them: facts and states."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from opsdb.runs.runs import RunFacts
from opsdb.states import State
from opsdb.tables import Lane

START = datetime(2026, 1, 1, tzinfo=UTC)


def make_facts(**changes: Any) -> RunFacts:
    values: dict[str, Any] = {
        "id": uuid4(),
        "kind": "odoo_db_backup",
        "lane": Lane.A,
        "priority": 0,
        "session_id": None,
        "params": {"odoo_db": "odoo_prod"},
        "created_at": START,
    }
    return RunFacts(**(values | changes))


def make_states(*types: str) -> list[State]:
    return [
        State(id=uuid4(), at=START + timedelta(seconds=number), type=type_, name=type_.title())
        for number, type_ in enumerate(types)
    ]
