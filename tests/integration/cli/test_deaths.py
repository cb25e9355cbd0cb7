"""Whether a run that died goes on, as whoever follows it reads it in the ops database."""

from __future__ import annotations

from uuid import uuid4

import pytest

from cli.run import deaths as module
from cli.run.deaths import Deaths
from opsdb.states import State
from tests.integration.sweeper_case import PREFECT_NOW, Case


@pytest.mark.parametrize("max_attempts", [1, 2])
def test_run_that_died_is_spared_as_often_as_its_kind_allows_it(
    max_attempts: int, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DECISION_SECONDS", 0)
    deaths = Deaths(settings=case.settings, run_id=case.id)
    assert deaths.spare(State(id=uuid4(), at=PREFECT_NOW, type="CRASHED", name="Crashed"))  # which is not recorded yet
    case.states("PENDING", "RUNNING")
    case.set(f"max_attempts = {max_attempts}")
    for attempt in range(1, max_attempts + 1):
        case.states("CRASHED")
        death = State(id=case.row().state_id, at=PREFECT_NOW, type="CRASHED", name="Crashed")
        assert deaths.spare(death) is (attempt < max_attempts)
        case.states("SCHEDULED", "PENDING", "RUNNING")
