"""The tables of schedules: what the room adds to Prefect's schedules."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, Column, Index, Text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import UUID as PgUUID
from sqlmodel import Field

from opsdb.schema import Table, number_column, one_of, time_column


class ScheduleRule(Table, table=True):
    """What was said of one of Prefect's schedules: `declared` in prefect.yaml or a template, or by a `person`.

    What a person said holds; where that is NULL, what is declared does.
    """

    __tablename__ = "schedule_rules"
    __table_args__ = (
        one_of("source", ("declared", "person")),
        CheckConstraint("catch_up ~ '^(skip|all|once within [0-9]+[mhd])$'", name="catch_up"),
    )

    schedule_id: UUID = Field(sa_column=Column(PgUUID(as_uuid=True), primary_key=True))
    source: str = Field(sa_column=Column(Text, primary_key=True))
    catch_up: str | None = Field(default=None, sa_column=Column(Text))
    blackouts: list[str] | None = Field(default=None, sa_column=Column(ARRAY(Text)))
    changed_by: str | None = Field(default=None, sa_column=Column(Text))
    changed_at: datetime | None = Field(default=None, sa_column=time_column(default_now=True, null=False))


class ScheduleOverride(Table, table=True):
    """Leave to start within the blackouts of a schedule, with a reason. Insert-only; it expires by itself."""

    __tablename__ = "schedule_overrides"
    __table_args__ = (
        CheckConstraint("ends_at >= starts_at", name="ends"),
        CheckConstraint("btrim(reason) <> ''", name="reason"),
        Index("ix_schedule_overrides_schedule_id", "schedule_id", "ends_at"),
    )

    id: int | None = Field(default=None, sa_column=number_column())
    schedule_id: UUID = Field(sa_column=Column(PgUUID(as_uuid=True), nullable=False))
    starts_at: datetime = Field(sa_column=time_column(null=False))
    ends_at: datetime = Field(sa_column=time_column(null=False))
    reason: str = Field(sa_column=Column(Text, nullable=False))
    made_by: str = Field(sa_column=Column(Text, nullable=False))
    made_at: datetime | None = Field(default=None, sa_column=time_column(default_now=True, null=False))
