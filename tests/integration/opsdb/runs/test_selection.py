"""Which runs a person means: since when, about what, the newest; and what their numbers say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, text

from opsdb.errors import RoomUnreachableError, UsageError
from opsdb.runs.lookup import find_run, list_runs, reading
from opsdb.runs.origins import started_message
from opsdb.runs.runs import apply_states, write_names
from opsdb.runs.stats import read_stats
from opsdb.settings import Settings
from opsdb.states import State
from tests.support.recorded_runs import make_facts, make_states

NOW = datetime.now(UTC)


def made(
    engine: Engine, *, days_ago: float = 0, kind: str = "k", states: tuple[str, ...] = ("SCHEDULED",), **params: Any
) -> UUID:
    facts = make_facts(kind=kind, params=params, created_at=NOW - timedelta(days=days_ago))
    with engine.begin() as db:
        apply_states(db, facts=facts, states=make_states(*states))
    return facts.id


def about(settings: Settings, name: str) -> set[UUID]:
    with reading(settings) as db:
        return {view.run.id for view in list_runs(db, about=name, limit=100)}


def test_runs_are_about_what_any_parameter_names(settings: Settings, engine: Engine) -> None:
    plain = made(engine, odoo_db="odoo_prod")
    listed = made(engine, databases=["odoo_test", "odoo_prod"])
    restored = made(engine, odoo_db="odoo_new", backup="odoo_prod_20261130T020000Z.dump")
    deep = made(engine, roles={"a": ["x", {"b": "odoo_prod"}]})
    held = made(engine, anything=1)
    with engine.begin() as db:
        db.execute(text("UPDATE ops.runs SET resource = 'odoo_host:odoo_prod' WHERE id = :id"), {"id": held})
    made(engine, odoo_db="odoo_prod_2", backup="odoo_prod_2_20261130T020000Z.dump", note="odoo_prod is away")
    made(engine, odoo_prod="a key is no name")
    assert about(settings, "odoo_prod") == {plain, listed, restored, deep, held}


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a.b", "$.x", "'; DROP", "(", "a\nb", "é", "[bold]"])
def test_any_name_is_taken_as_it_is(name: str, settings: Settings, engine: Engine) -> None:
    mine = made(engine, odoo_db=name)
    made(engine, odoo_db="axb", backup="axb_20261130T020000Z.dump")
    assert about(settings, name) == {mine}


def test_runs_of_this_long_and_since_a_date(settings: Settings, engine: Engine) -> None:
    today, week = made(engine), made(engine, days_ago=6.9)
    made(engine, days_ago=7.1)
    with reading(settings) as db:
        assert {view.run.id for view in list_runs(db, since=timedelta(days=7))} == {today, week}
        assert [view.run.id for view in list_runs(db, since=NOW - timedelta(days=1))] == [today]


def test_unfinished_are_those_that_are_not_over(settings: Settings, engine: Engine) -> None:
    waits, runs = made(engine), made(engine, states=("SCHEDULED", "PENDING", "RUNNING"))
    made(engine, states=("SCHEDULED", "PENDING", "RUNNING", "COMPLETED"))
    with reading(settings) as db:
        assert {view.run.id for view in list_runs(db, unfinished=True)} == {waits, runs}


def test_last_is_the_newest_and_that_of_a_kind_or_database(settings: Settings, engine: Engine) -> None:
    staging = made(engine, days_ago=3, kind="backup", odoo_db="staging")
    drill = made(engine, days_ago=2, kind="drill", odoo_db="prod")
    newest = made(engine, days_ago=1, kind="backup", odoo_db="prod")
    with reading(settings) as db:
        assert find_run(db, "last") == newest
        assert find_run(db, "last:staging") == staging
        assert find_run(db, "last:drill") == drill
        assert find_run(db, "last:prod") == newest
        with pytest.raises(UsageError, match="no run of the kind 'nope', or about a database or host of that name"):
            find_run(db, "last:nope")


def test_run_that_is_planned_for_later_is_not_the_newest(settings: Settings, engine: Engine) -> None:
    newest = made(engine, odoo_db="prod")
    planned = made(engine, days_ago=-0.5, odoo_db="prod")
    with engine.begin() as db:
        write_names(db, {newest: "prod · backup", planned: "prod · backup"})
    with reading(settings) as db:
        assert {find_run(db, name) for name in ("last", "last:prod", "prod · backup")} == {newest}


@pytest.mark.parametrize("name", ["\udcff", "a\0b"])
def test_name_that_nothing_can_store_is_unknown(name: str, settings: Settings, engine: Engine) -> None:
    made(engine, odoo_db="prod")
    with reading(settings) as db, pytest.raises(UsageError, match="no run of the kind"):
        find_run(db, f"last:{name}")


def test_what_the_database_refuses_to_compare_is_an_error_that_says_so(settings: Settings) -> None:
    with pytest.raises(RoomUnreachableError), reading(settings) as db:
        list_runs(db, kind="a\0b")


def test_each_run_says_from_where_its_own_first_state_says(settings: Settings, engine: Engine) -> None:
    def started(message: str | None) -> UUID:
        facts = make_facts()
        first, *others = make_states("SCHEDULED", "PENDING", "RUNNING")
        told = State(id=first.id, at=first.at, type=first.type, name=first.name, message=message)
        with engine.begin() as db:
            apply_states(db, facts=facts, states=[told, *others])
        return facts.id

    by_alice, by_ui = started(started_message("alice", "ops run")), started("Run from the Prefect UI")
    tick = "scheduled 00000000-0000-4000-8000-000000000001 00000000-0000-4000-8000-000000000002 2026-11-30"
    planned = started("Flow run scheduled")
    with engine.begin() as db:
        db.execute(text("UPDATE ops.runs SET tick = :tick WHERE id = :id"), {"tick": tick, "id": planned})
        db.execute(
            text(
                "INSERT INTO ops.schedule_plans (id, deployment, name, expression, active) "
                "VALUES ('00000000-0000-4000-8000-000000000002', 'k/d', 'nightly', 'x', true)"
            )
        )
    with reading(settings) as db:
        found = {view.run.id: view.origin for view in list_runs(db)}
    assert found == {by_alice: "command line by alice", by_ui: "Prefect UI", planned: "schedule nightly"}


def test_numbers_of_a_kind_and_of_each_database(settings: Settings, engine: Engine) -> None:
    over = ("SCHEDULED", "PENDING", "RUNNING")
    for seconds in (10, 20, 90):
        run = made(engine, kind="backup", states=(*over, "COMPLETED"), odoo_db="prod")
        with engine.begin() as db:
            db.execute(
                text("UPDATE ops.runs SET finished_at = started_at + make_interval(secs => :s) WHERE id = :id"),
                {"s": seconds, "id": run},
            )
    made(engine, kind="backup", states=(*over, "FAILED"), odoo_db="shop")
    made(engine, kind="backup", states=(*over, "CANCELLED"), odoo_db="shop")
    made(engine, kind="backup", states=over, odoo_db="shop")
    old = made(engine, kind="backup", states=(*over, "COMPLETED"), odoo_db="old")
    made(engine, kind="other", states=(*over, "FAILED"), days_ago=40)  # it ended since then
    lately = "UPDATE ops.runs SET started_at = started_at + (now() - finished_at), finished_at = now()"
    with engine.begin() as db:
        db.execute(text(f"{lately} WHERE finished_at IS NOT NULL"))
        db.execute(text("UPDATE ops.runs SET finished_at = now() - interval '31 d' WHERE id = :id"), {"id": old})
    with reading(settings) as db:
        total, prod, shop = read_stats(db, since=timedelta(days=30), kind="backup")
        kinds = [one for one in read_stats(db, since=timedelta(days=30)) if one.in_all]
    assert (total.in_all, total.runs, total.succeeded, total.failed, total.cancelled) == (True, 5, 3, 1, 1)
    assert total.success_rate == 0.75
    assert (prod.about, prod.median_seconds, prod.longest_seconds) == ("prod", 20.0, 90.0)
    assert prod.p95_seconds == pytest.approx(83.0)
    assert (shop.about, shop.success_rate, shop.median_seconds) == ("shop", 0.0, None)
    assert [one.kind for one in kinds] == ["backup", "other"]
