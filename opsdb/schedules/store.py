"""The rules of schedules in the ops database: written by `ops deploy` and `ops schedule`, read by workers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col

from opsdb.schedules.blackouts import Blackout, read_blackout
from opsdb.schedules.catch_up import DEFAULT, CatchUp, read_catch_up
from opsdb.schedules.rules import Override, ScheduleRules
from opsdb.schedules.tables import ScheduleOverride, ScheduleRule


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What one source said of a schedule. None where it said nothing."""

    catch_up: CatchUp | None = None
    blackouts: tuple[Blackout, ...] | None = None
    by: str | None = None
    at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownRules:
    """All that is known of one schedule."""

    declared: Said = Said()
    person: Said = Said()
    overrides: tuple[Override, ...] = field(default=())

    @property
    def effective(self) -> ScheduleRules:
        """What holds: what a person said, else what is declared, else the default."""
        blackouts = self.declared.blackouts if self.person.blackouts is None else self.person.blackouts
        catch_up = self.person.catch_up or self.declared.catch_up or DEFAULT
        return ScheduleRules(catch_up=catch_up, blackouts=blackouts or (), overrides=self.overrides)


def read_rules(db: Connection) -> dict[UUID, KnownRules]:
    """The rules of each schedule of which anything was said, with the overrides of the last day and those ahead."""
    said: dict[UUID, dict[str, Said]] = defaultdict(dict)
    for row in db.execute(select(ScheduleRule)).all():
        said[row.schedule_id][row.source] = Said(
            catch_up=read_catch_up(row.catch_up) if row.catch_up else None,
            blackouts=None if row.blackouts is None else tuple(map(read_blackout, row.blackouts)),
            by=row.changed_by,
            at=row.changed_at,
        )
    overrides: dict[UUID, list[Override]] = defaultdict(list)
    recent = func.clock_timestamp() - func.make_interval(0, 0, 0, 1)
    ahead = select(ScheduleOverride).where(col(ScheduleOverride.ends_at) > recent)
    for made in db.execute(ahead.order_by(col(ScheduleOverride.starts_at), col(ScheduleOverride.id))):
        override = Override(
            starts_at=made.starts_at,
            ends_at=made.ends_at,
            reason=made.reason,
            made_by=made.made_by,
            made_at=made.made_at,
        )
        overrides[made.schedule_id].append(override)
    return {
        one: KnownRules(**said.get(one, {}), overrides=tuple(overrides.get(one, ())))
        for one in said.keys() | overrides.keys()
    }


def write_declared(db: Connection, declared: Mapping[UUID, Said], *, existing: Collection[UUID]) -> None:
    """Make what is declared of schedules exactly this. What is known of schedules that no longer exist is forgotten."""
    db.execute(delete(ScheduleRule).where(col(ScheduleRule.schedule_id).not_in(existing)))
    db.execute(delete(ScheduleOverride).where(col(ScheduleOverride.schedule_id).not_in(existing)))
    db.execute(
        delete(ScheduleRule).where(
            col(ScheduleRule.source) == "declared", col(ScheduleRule.schedule_id).not_in(list(declared))
        )
    )
    for schedule_id, said in declared.items():
        _write(db, schedule_id, "declared", catch_up=said.catch_up, blackouts=said.blackouts, by=None)


def write_person(
    db: Connection,
    schedule_id: UUID,
    *,
    catch_up: CatchUp | None,
    blackouts: Sequence[Blackout] | None,
    by: str,
) -> None:
    """Note what a person said of a schedule. None leaves to what is declared."""
    _write(db, schedule_id, "person", catch_up=catch_up, blackouts=blackouts, by=by)


def forget_person(db: Connection, schedule_id: UUID) -> None:
    """What is declared of a schedule holds again, or the default. Overrides were a person's as well."""
    db.execute(
        delete(ScheduleRule).where(col(ScheduleRule.schedule_id) == schedule_id, col(ScheduleRule.source) == "person")
    )
    db.execute(delete(ScheduleOverride).where(col(ScheduleOverride.schedule_id) == schedule_id))


def add_override(
    db: Connection, schedule_id: UUID, *, starts_at: datetime, ends_at: datetime, reason: str, by: str
) -> None:
    """Let due times begin within blackouts, from one moment to another, both included."""
    values = {"schedule_id": schedule_id, "starts_at": starts_at, "ends_at": ends_at, "reason": reason, "made_by": by}
    db.execute(insert(ScheduleOverride).values(values))


def _write(
    db: Connection,
    schedule_id: UUID,
    source: str,
    *,
    catch_up: CatchUp | None,
    blackouts: Iterable[Blackout] | None,
    by: str | None,
) -> None:
    values = {
        "catch_up": None if catch_up is None else str(catch_up),
        "blackouts": None if blackouts is None else [str(one) for one in blackouts],
        "changed_by": by,
    }
    made = insert(ScheduleRule).values(schedule_id=schedule_id, source=source, **values)
    differs = (
        col(ScheduleRule.catch_up).is_distinct_from(made.excluded.catch_up)
        | col(ScheduleRule.blackouts).is_distinct_from(made.excluded.blackouts)
        | col(ScheduleRule.changed_by).is_distinct_from(made.excluded.changed_by)
    )
    db.execute(
        made.on_conflict_do_update(
            index_elements=[col(ScheduleRule.schedule_id), col(ScheduleRule.source)],
            set_=values | {"changed_at": func.clock_timestamp()},
            where=differs,
        )
    )
