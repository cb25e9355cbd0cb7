"""The tables of what Prefect says of lanes and schedules, see opsdb/plans.py."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import Boolean, Column, Integer, Text
from sqlalchemy.dialects.postgresql import UUID as PgUUID
from sqlmodel import Field

from opsdb.schema import Table, time_column


class LaneLimit(Table, table=True):
    """What Prefect lets a lane execute at once, as the room last read it there."""

    __tablename__ = "lane_limits"

    lane: str = Field(sa_column=Column(Text, primary_key=True))
    slots: int | None = Field(default=None, sa_column=Column(Integer))  # 0 while it is paused; without one, any number
    updated_at: datetime | None = Field(default=None, sa_column=time_column(default_now=True, null=False))


class SchedulePlan(Table, table=True):
    """A schedule of a deployment, as the room last read it in Prefect. It goes when it is deleted there."""

    __tablename__ = "schedule_plans"

    id: UUID = Field(sa_column=Column(PgUUID(as_uuid=True), primary_key=True))
    deployment: str = Field(sa_column=Column(Text, nullable=False))  # as Prefect names it: kind/name
    name: str = Field(sa_column=Column(Text, nullable=False))
    expression: str = Field(sa_column=Column(Text, nullable=False))
    active: bool = Field(sa_column=Column(Boolean, nullable=False))
    # of the first run that Prefect planned of it
    planned_at: datetime | None = Field(default=None, sa_column=time_column())
    # why it does not fire; it stays while the schedule is as it was then
    fault: str | None = Field(default=None, sa_column=Column(Text))
    # since when it should have a planned run and has none
    unplanned_since: datetime | None = Field(default=None, sa_column=time_column())
    updated_at: datetime | None = Field(default=None, sa_column=time_column(default_now=True, null=False))
