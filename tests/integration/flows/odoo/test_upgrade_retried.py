"""Another attempt of an upgrade: what comes before all else, and what of the earlier one stands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest

from blocks.odoo_host import OdooHost
from flows.engine.active_run import ActiveRun, activated
from flows.engine.put_back import BEFORE_THE_FIRST, NAME, Account, broken_off
from flows.odoo.broken_upgrade import GUARDED, Upgrade, end_earlier, goes_on_with_modules
from opsdb.database import connect
from opsdb.errors import StepFailedError
from opsdb.record.entries import Entry, StepFinished, StepStarted
from opsdb.runs.kept_steps import KeptStep
from opsdb.runs.runs import apply_states
from opsdb.settings import Settings
from opsdb.tables import Lane, StepStatus
from tests.support.recorded_runs import make_facts, make_states

NOTED = {"noted": "note_versions", "output": "pull_latest"}
PULLED = {"stdout": f"before: {'a' * 40}\nafter: {'b' * 40}\n"}


@pytest.fixture
def run(settings: Settings) -> Iterator[ActiveRun]:
    """The second attempt of an upgrade that a person tried again, as its process knows it; nothing is recorded yet."""
    facts = make_facts(kind="odoo_module_upgrade", lane=Lane.C, params={"odoo_db": "shop"})
    engine = connect(settings, application="test")

    def record(entry: Entry) -> None:
        with engine.begin() as db:
            entry.apply(db)

    with engine.begin() as db:
        apply_states(db, facts=facts, states=make_states("SCHEDULED", "PENDING", "RUNNING"))
    made = ActiveRun(id=facts.id, attempt=2, settings=settings, record=record, in_lane=True)
    with activated(made):
        yield made
    engine.dispose()


def did(run: ActiveRun, attempt: int, index: int, name: str, *, ended: bool = True, **result: Any) -> None:
    key: dict[str, Any] = {"attempt": attempt, "index": index}
    run.record(StepStarted(run.id, **key, name=name, command="x", timeout_seconds=5))
    if ended:
        run.record(StepFinished(run.id, **key, status=StepStatus.SUCCEEDED, **result))


def test_attempt_that_put_back_what_was_left_to_it_may_leave_something_itself(run: ActiveRun) -> None:
    """It was killed, as the one before it: what it left is its own."""
    did(run, 1, 1, "stop_odoo", ended=False)
    did(run, 2, BEFORE_THE_FIRST, NAME)
    did(run, 2, 1, "stop_odoo")
    did(run, 2, 2, "upgrade_modules", ended=False)
    run.attempt = 3
    found = broken_off(block=GUARDED, **NOTED)
    assert found is not None
    assert (found.attempt, found.step) == (2, "upgrade_modules")
    did(run, 3, BEFORE_THE_FIRST, NAME)
    run.attempt = 4
    assert broken_off(block=GUARDED, **NOTED) is None


@pytest.mark.parametrize("fails", [True, False])
def test_nothing_follows_while_marks_stand_that_an_earlier_attempt_left(
    run: ActiveRun, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    """A step that follows could start Odoo, which would carry on with them."""
    did(run, 1, 1, "pull_latest", result=PULLED)
    did(run, 1, 2, "stop_odoo")
    did(run, 1, 3, "upgrade_modules", ended=False)

    def put_back(upgrade: Upgrade) -> Account:
        assert (upgrade.began, upgrade.commit) == (True, "b" * 40)
        if fails:
            raise StepFailedError("foreign_one is in the way")
        return Account("it was put back", {})

    monkeypatch.setattr(Upgrade, "put_back", put_back)
    refusal = pytest.raises(StepFailedError, match=r"comes before anything else: .*foreign_one is in the way")
    with refusal if fails else nullcontext():
        end_earlier("shop", OdooHost())


@pytest.mark.parametrize("begun", [True, False])
def test_what_kept_people_out_and_protected_stands_only_once_modules_were_touched(run: ActiveRun, begun: bool) -> None:
    """Where none was, Odoo was started since: it is stopped and protected again, and not skipped."""
    kept = [
        KeptStep(index=1, name=name, command="x", timeout_seconds=5, definition="4", exit_code=0, result=None)
        for name in ("stop_odoo", "alone", "protected")
    ]
    run.kept = list(kept)
    did(run, 1, 1, "stop_odoo")
    did(run, 1, 2, "upgrade_modules" if begun else "snapshot", ended=False)
    assert goes_on_with_modules() is begun
    assert run.kept == (kept if begun else [])
