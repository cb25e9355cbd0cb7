"""`ops rollback`: which runs it takes, and what it starts."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from cli.run import rollback
from opsdb.database import connect
from opsdb.runs.runs import apply_states
from opsdb.settings import Settings
from opsdb.tables import Lane
from tests.integration.cli.conftest import Ops
from tests.support.recorded_runs import make_facts, make_states


def insert(settings: Settings, kind: str, *states: str) -> UUID:
    engine = connect(settings, application="test")
    facts = make_facts(kind=kind, lane=Lane.C, priority=7)
    with engine.begin() as db:
        apply_states(db, facts=facts, states=make_states(*states))
    engine.dispose()
    return facts.id


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What was started, instead of starting it."""
    found: list[dict[str, Any]] = []
    monkeypatch.setattr(rollback, "start_run", lambda _settings, **facts: found.append(facts))
    return found


@pytest.mark.parametrize("words", [[], ["--yes", "--dry-run"]])
def test_rollback_of_an_upgrade_is_started_in_its_lane_and_asks_unless_told_otherwise(
    ops: Ops, settings: Settings, started: list[dict[str, Any]], words: list[str]
) -> None:
    run = insert(settings, "odoo_module_upgrade", "RUNNING", "FAILED")
    code, _, said = ops("rollback", str(run)[:13], *words)
    assert (code, said) == (0, "")
    [facts] = started
    assert facts["kind"] == "odoo_upgrade_rollback"
    assert facts["assignments"] == ["odoo_db=odoo_prod", f"upgrade={run}", f"ask={str(not words).lower()}"]
    assert (facts["lane"], facts["priority"], facts["dry_run"], facts["wait"]) == (Lane.C, 7, bool(words), False)


@pytest.mark.parametrize(
    "case",
    [
        (
            "odoo_db_backup",
            "COMPLETED",
            "is a run of odoo_db_backup: only runs of odoo_module_upgrade can be taken back",
        ),
        ("odoo_module_upgrade", "RUNNING", "is running and is not over: `ops cancel"),
    ],
)
def test_what_cannot_be_taken_back_is_refused_with_one_line(
    ops: Ops, settings: Settings, started: list[dict[str, Any]], case: tuple[str, str, str]
) -> None:
    kind, state, message = case
    run = insert(settings, kind, state)
    code, out, said = ops("rollback", str(run))
    assert (code, out, started) == (2, "", [])
    assert message in said
    code, _, said = ops("rollback", "0123456789")
    assert code == 2
    assert "no run is recorded under" in said
