"""What `ops deploy` last applied of each deployment: what differs from it now, somebody set in Prefect since."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Column, Connection, Text, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import Field, col

from opsdb.schema import Table, json_column, time_column


class Deployed(Table, table=True):
    """The settings of a deployment, by their names, as its file had them when it was applied last."""

    __tablename__ = "deployed"

    name: str = Field(sa_column=Column(Text, primary_key=True))
    settings: dict[str, Any] = Field(sa_column=json_column(null=False))
    updated_at: datetime | None = Field(default=None, sa_column=time_column(default_now=True, null=False))


def read_deployed(db: Connection) -> dict[str, dict[str, Any]]:
    """The settings that were applied last, by the name of their deployment."""
    return {row.name: row.settings for row in db.execute(select(Deployed))}


def write_deployed(db: Connection, name: str, settings: dict[str, Any]) -> None:
    """Note what was applied."""
    made = insert(Deployed).values(name=name, settings=settings)
    now = {"settings": made.excluded.settings, "updated_at": func.clock_timestamp()}
    db.execute(made.on_conflict_do_update(index_elements=[col(Deployed.name)], set_=now))


def rename_deployed(db: Connection, names: Mapping[str, str]) -> None:
    """Have what was noted of deployments stand under new names, by the old ones. What stands under a new one stays."""
    there = set(db.scalars(select(col(Deployed.name))))
    for before, now in names.items():
        if now not in there:
            db.execute(update(Deployed).where(col(Deployed.name) == before).values(name=now))
    forget_deployed(db, names)


def forget_deployed(db: Connection, names: Collection[str]) -> None:
    """Forget deployments that are gone."""
    db.execute(delete(Deployed).where(col(Deployed.name).in_(names)))
