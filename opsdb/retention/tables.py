"""The table of what was deleted because it was old."""

from datetime import datetime
from typing import Any

from sqlalchemy import Column, Text
from sqlmodel import Field

from opsdb.schema import Table, json_column, number_column, one_of, time_column


class Prune(Table, table=True):
    """One pass of `ops db prune`, by the room itself or a person, with what it has deleted so far.

    The row of `installation` deleted nothing: a room that was made with it prunes by itself.
    """

    __tablename__ = "prunes"
    __table_args__ = (one_of("started_by", ("room", "person", "installation")),)

    id: int | None = Field(default=None, sa_column=number_column())
    started_by: str = Field(sa_column=Column(Text, nullable=False))
    started_at: datetime | None = Field(default=None, sa_column=time_column(default_now=True, null=False))
    finished_at: datetime | None = Field(default=None, sa_column=time_column())
    deleted: dict[str, Any] = Field(default_factory=dict, sa_column=json_column(null=False))
