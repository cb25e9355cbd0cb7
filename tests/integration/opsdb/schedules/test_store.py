"""The rules of schedules in a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError

from opsdb.database import connect
from opsdb.schedules.blackouts import read_blackout
from opsdb.schedules.catch_up import DEFAULT, read_catch_up
from opsdb.schedules.store import (
    KnownRules,
    Said,
    add_override,
    forget_person,
    read_rules,
    write_declared,
    write_person,
)
from opsdb.settings import Settings

ALL, SKIP = read_catch_up("all"), read_catch_up("skip")
WEEKEND = read_blackout("Fri 18:00 to Mon 06:00")


@pytest.fixture
def db(settings: Settings) -> Iterator[Connection]:
    engine = connect(settings, application="test")
    with engine.begin() as connection:
        yield connection
    engine.dispose()


@pytest.fixture
def schedule() -> UUID:
    return uuid4()


def rules(db: Connection, schedule: UUID) -> KnownRules:
    return read_rules(db).get(schedule, KnownRules())


def test_what_a_person_said_holds_and_what_is_declared_fills_the_rest(db: Connection, schedule: UUID) -> None:
    assert rules(db, schedule).effective.catch_up == DEFAULT
    write_declared(db, {schedule: Said(catch_up=SKIP, blackouts=(WEEKEND,))}, existing=[schedule])
    assert rules(db, schedule).effective.catch_up == SKIP
    write_person(db, schedule, catch_up=ALL, blackouts=None, by="ann")
    known = rules(db, schedule)
    assert (known.effective.catch_up, known.effective.blackouts) == (ALL, (WEEKEND,))
    assert known.person.by == "ann"
    write_person(db, schedule, catch_up=ALL, blackouts=(), by="ann")
    assert rules(db, schedule).effective.blackouts == ()
    forget_person(db, schedule)
    assert rules(db, schedule).effective.catch_up == SKIP


def test_another_declaration_leaves_what_a_person_said(db: Connection, schedule: UUID) -> None:
    write_person(db, schedule, catch_up=ALL, blackouts=None, by="ann")
    write_declared(db, {schedule: Said(catch_up=SKIP)}, existing=[schedule])
    write_declared(db, {}, existing=[schedule])
    known = rules(db, schedule)
    assert (known.declared, known.effective.catch_up) == (Said(), ALL)


def test_declaring_the_same_again_changes_no_row(db: Connection, schedule: UUID) -> None:
    said = {schedule: Said(catch_up=SKIP, blackouts=(WEEKEND,))}
    write_declared(db, said, existing=[schedule])
    before = db.execute(text("SELECT ctid, changed_at FROM ops.schedule_rules")).all()
    write_declared(db, said, existing=[schedule])
    assert db.execute(text("SELECT ctid, changed_at FROM ops.schedule_rules")).all() == before


def test_rules_go_with_their_schedule(db: Connection, schedule: UUID) -> None:
    now = datetime.now(UTC)
    for one in (schedule, uuid4()):
        write_person(db, one, catch_up=ALL, blackouts=None, by="ann")
        add_override(db, one, starts_at=now, ends_at=now, reason="x", by="ann")
    write_declared(db, {}, existing=[schedule])
    assert read_rules(db).keys() == {schedule}


def test_overrides_expire_by_themselves_and_stay_as_a_record(db: Connection, schedule: UUID) -> None:
    now = datetime.now(UTC)
    for days in (-2, 1):
        at = now + timedelta(days=days)
        add_override(db, schedule, starts_at=at, ends_at=at, reason=f"{days}", by="ann")
    [override] = rules(db, schedule).overrides
    assert (override.reason, override.made_by) == ("1", "ann")
    assert abs(override.made_at - now) < timedelta(minutes=1)
    assert db.scalar(text("SELECT count(*) FROM ops.schedule_overrides")) == 2


@pytest.mark.parametrize(
    ("table", "columns", "values"),
    [
        ("schedule_rules", "source, catch_up", "'declared', 'twice'"),
        ("schedule_rules", "source, catch_up", "'nobody', 'all'"),
        ("schedule_overrides", "starts_at, ends_at, reason, made_by", "now(), now(), ' ', 'ann'"),
        ("schedule_overrides", "starts_at, ends_at, reason, made_by", "now(), now() - interval '1 s', 'x', 'ann'"),
    ],
)
def test_database_refuses_what_makes_no_rule(db: Connection, table: str, columns: str, values: str) -> None:
    with pytest.raises(IntegrityError, match="violates check constraint"):
        db.execute(text(f"INSERT INTO ops.{table} (schedule_id, {columns}) VALUES (gen_random_uuid(), {values})"))
