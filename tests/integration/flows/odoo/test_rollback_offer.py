"""What is started when an upgrade fails: a rollback that asks, one that does not, or nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Engine, text

from blocks.odoo_host import OdooHost
from flows.engine.active_run import ActiveRun, activated
from flows.engine.child_runs import NotStartedError
from flows.odoo import rollback_offer
from flows.odoo.before import (
    Protection,
    note_checked_out,
    note_place,
    note_protection,
    read_before,
    read_protection_of_begun,
    refuse_other_attempt,
    refuse_taken_back,
    tell_how_far,
)
from flows.odoo.rollback_offer import taken_back_on_failure
from opsdb.database import connect
from opsdb.errors import PreflightError, StepFailedError
from opsdb.record.entries import Entry, Event, StepFinished, StepStarted
from opsdb.runs.lookup import short_id
from opsdb.runs.runs import apply_states
from opsdb.settings import Settings
from opsdb.tables import Lane, StepStatus
from tests.support.recorded_runs import make_facts, make_states

KEPT = Protection(protect="dump", made_at=datetime(2026, 11, 30, tzinfo=UTC), backup="a.dump", filestore=True)


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    engine = connect(settings, application="test")
    yield engine
    engine.dispose()


@pytest.fixture
def run(settings: Settings, engine: Engine) -> Iterator[ActiveRun]:
    """An upgrade in lane C, as its process knows it, and as the ops database does."""
    facts = make_facts(kind="odoo_module_upgrade", lane=Lane.C, priority=7, params={"odoo_db": "shop"})
    events: list[Event] = []

    def record(entry: Entry) -> None:
        with engine.begin() as db:
            entry.apply(db)
        if isinstance(entry, Event):
            events.append(entry)

    with engine.begin() as db:
        apply_states(db, facts=facts, states=make_states("SCHEDULED", "PENDING", "RUNNING"))
    made = ActiveRun(id=facts.id, attempt=1, settings=settings, record=record, in_lane=True)
    with activated(made):
        yield made


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []

    def start(_client: object, **facts: Any) -> SimpleNamespace:
        found.append(facts)
        return SimpleNamespace(id=uuid4())

    monkeypatch.setattr(rollback_offer, "start_child_run", start)
    monkeypatch.setattr(rollback_offer, "get_client", lambda **_: nullcontext(None))
    return found


def begin(run: ActiveRun, *, protected: bool = True) -> None:
    note_place("shop", OdooHost(), "a" * 40)
    if protected:
        note_protection(KEPT)
    run.record(
        StepStarted(
            run.id, attempt=1, index=9, name="upgrade_modules", command="odoo", timeout_seconds=5, definition="1"
        )
    )


@pytest.mark.parametrize("rollback", ["ask", "on_failure"])
def test_failed_upgrade_starts_its_rollback_once_it_touched_the_database(
    run: ActiveRun, started: list[dict[str, Any]], rollback: Any
) -> None:
    begin(run)
    with pytest.raises(StepFailedError, match="View error"), taken_back_on_failure("shop", rollback):
        raise StepFailedError("View error")
    [facts] = started
    assert (facts["kind"], facts["lane"], facts["priority"]) == ("odoo_upgrade_rollback", Lane.C, 7)
    parameters = {"odoo_db": "shop", "upgrade": str(run.id), "ask": rollback == "ask", "attempt": 1}
    assert facts["parameters"] == parameters
    assert str(run.id) in facts["key"]


@pytest.mark.parametrize("case", ["never", "nothing protected", "not begun", "no failure", "cancelled"])
def test_otherwise_nothing_is_started(run: ActiveRun, started: list[dict[str, Any]], case: str) -> None:
    if case != "not begun":
        begin(run, protected=case != "nothing protected")
    errors = {"cancelled": KeyboardInterrupt, "no failure": None}
    error = errors.get(case, StepFailedError)
    rollback: Any = "never" if case == "never" else "ask"
    with pytest.raises(error) if error else nullcontext(), taken_back_on_failure("shop", rollback):
        if error:
            raise error("it failed")
    assert started == []


def test_offer_of_an_earlier_attempt_takes_nothing_back(run: ActiveRun) -> None:
    """It may have waited while the upgrade was tried again, and went well."""
    begin(run)
    before = read_before(run.id, "shop")
    for attempt in (0, before.attempt):
        refuse_other_attempt(before, attempt)
    with pytest.raises(PreflightError, match=f"offered for attempt {before.attempt + 1} of run {short_id(run.id)}"):
        refuse_other_attempt(before, before.attempt + 1)


def test_rollback_that_cannot_be_started_is_named_with_its_command_and_hides_no_error(
    run: ActiveRun, started: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(run)
    told: list[str] = []
    monkeypatch.setattr(ActiveRun, "event", lambda _run, message, **_: told.append(message))

    def refuse(_client: object, **_facts: object) -> None:
        raise NotStartedError("shop: odoo_upgrade_rollback is not deployed to lane C")

    monkeypatch.setattr(rollback_offer, "start_child_run", refuse)
    with pytest.raises(StepFailedError, match="View error"), taken_back_on_failure("shop", "ask"):
        raise StepFailedError("View error")
    [message] = told
    assert "not deployed to lane C" in message
    assert f"`ops rollback {short_id(run.id)}` starts it" in message


def test_later_attempt_goes_by_what_was_kept_before_modules_were_touched(run: ActiveRun) -> None:
    begin(run)
    assert read_protection_of_begun() is None
    run.attempt = 2
    assert read_protection_of_begun() == KEPT
    note_place("shop", OdooHost(), "b" * 40)  # the checkout is of the first attempt's upgrade by now
    before = read_before(run.id, "shop")
    assert (before.place.commit, before.begun, before.protection) == ("a" * 40, True, KEPT)
    with pytest.raises(PreflightError, match="upgraded shop, not another"):
        read_before(run.id, "another")


@pytest.mark.parametrize(
    ("found", "commit"), [("b", "b"), ("c", "a")], ids=["another upgrade moved on", "as the first attempt left it"]
)
def test_later_attempt_of_one_that_touched_nothing_notes_the_commit_that_the_database_belongs_to(
    run: ActiveRun, found: str, commit: str
) -> None:
    assert note_place("shop", OdooHost(), "a" * 40) == "a" * 40
    note_checked_out(OdooHost(), "c" * 40)
    run.attempt = 2
    assert note_place("shop", OdooHost(), found * 40) == commit * 40
    run.record(StepStarted(run.id, attempt=2, index=9, name="upgrade_modules", command="odoo", timeout_seconds=5))
    with connect(run.settings, application="test").begin() as db:
        db.execute(text("UPDATE ops.runs SET attempt = 2 WHERE id = :id"), {"id": run.id})
    assert read_before(run.id, "shop").place.commit == commit * 40


@pytest.mark.parametrize("step", ["", "upgrade_modules", "start_odoo"])
def test_attempt_of_the_rooms_own_says_how_far_the_killed_one_was(run: ActiveRun, step: str) -> None:
    if step:
        begin(run)
    if step == "start_odoo":
        key: dict[str, Any] = {"attempt": 1, "index": 12}
        run.record(StepStarted(run.id, **key, name="start_odoo", command="docker", timeout_seconds=5))
        run.record(StepFinished(run.id, **key, status=StepStatus.SUCCEEDED))
    run.attempt = 2
    words = {
        "": "had not begun to upgrade",
        "upgrade_modules": "was put back already",
        "start_odoo": "all modules were upgraded and the service was started",
    }
    assert words[step] in tell_how_far()


def test_upgrades_that_a_rollback_undoes_as_well_are_named(run: ActiveRun, engine: Engine) -> None:
    begin(run)
    later = make_facts(kind="odoo_module_upgrade", params={"odoo_db": "shop"})
    with engine.begin() as db:
        apply_states(db, facts=later, states=make_states("RUNNING"))
        StepStarted(later.id, attempt=1, index=9, name="upgrade_modules", command="odoo", timeout_seconds=5).apply(db)
    assert read_before(run.id, "shop").since == [short_id(later.id)]


def test_upgrade_that_is_taken_back_is_not_tried_again(run: ActiveRun, engine: Engine) -> None:
    """Its steps do not stand, and what it kept is not the previous state any more."""
    begin(run)
    run.attempt = 2
    refuse_taken_back()
    rollback = make_facts(kind="odoo_upgrade_rollback", params={"odoo_db": "shop", "upgrade": str(run.id)})
    with engine.begin() as db:
        apply_states(db, facts=rollback, states=make_states("RUNNING"))
    refuse_taken_back()  # it waits for its approval
    step: dict[str, Any] = {"attempt": 1, "index": 9, "command": "docker", "timeout_seconds": 5}
    with engine.begin() as db:
        StepStarted(rollback.id, name="stop_odoo", **step).apply(db)
    with pytest.raises(PreflightError, match=f"run {short_id(rollback.id)} took this upgrade back.*`ops rerun "):
        refuse_taken_back()


def test_rollback_to_what_an_earlier_attempt_kept_asks_always(run: ActiveRun, started: list[dict[str, Any]]) -> None:
    """Odoo ran in between, so people may have worked."""
    begin(run)
    run.attempt = 2
    with pytest.raises(StepFailedError), taken_back_on_failure("shop", "on_failure"):
        raise StepFailedError("View error")
    assert started[0]["parameters"]["ask"] is True
