"""The versions of templates that ran: each is kept once, under the next number of its kind."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Column, Connection, Double, Integer, Text, UniqueConstraint, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import Field, col

from opsdb.schema import Table, json_column, number_column, time_column
from opsdb.tables import Run


class RunTemplate(Table, table=True):
    """A version of a template that ran. The database lets nobody change or delete one."""

    __tablename__ = "run_templates"
    __table_args__ = (
        UniqueConstraint("kind", "version"),
        UniqueConstraint("kind", "definition"),
    )

    id: int | None = Field(default=None, sa_column=number_column())
    name: str = Field(sa_column=Column(Text, nullable=False))  # of the file then, without its ending
    version: int = Field(sa_column=Column(Integer, nullable=False))
    kind: str = Field(sa_column=Column(Text, nullable=False))
    steps: list[dict[str, Any]] = Field(sa_column=json_column(null=False))
    timeout_seconds: float | None = Field(default=None, sa_column=Column(Double))
    retry_policy: dict[str, Any] = Field(default_factory=dict, sa_column=json_column(null=False))
    definition: str = Field(sa_column=Column(Text, nullable=False))
    document: dict[str, Any] = Field(sa_column=json_column(null=False))
    created_at: datetime | None = Field(default=None, sa_column=time_column(default_now=True, null=False))


class TemplateRecord(NamedTuple):
    """What is recorded of a template: how many versions ran, and when its kind was last started."""

    versions: int
    last_run_at: datetime | None
    last_status: str | None


def keep_version(db: Connection, *, name: str, template: Mapping[str, Any], definition: str) -> int:
    """Record what ran, unless it is recorded. Returns the number of its version."""
    kind = template["kind"]
    same_kind = col(RunTemplate.kind) == kind  # and not its name: two folders may hold files of one name
    known = select(col(RunTemplate.version)).where(same_kind, col(RunTemplate.definition) == definition)
    latest = select(func.coalesce(func.max(col(RunTemplate.version)), 0)).where(same_kind)
    while True:
        version = db.execute(known).scalar_one_or_none()
        if version is not None:
            return version
        made = insert(RunTemplate).values(
            name=name,
            version=db.execute(latest).scalar_one() + 1,
            kind=kind,
            steps=template["steps"],
            timeout_seconds=template.get("timeout_seconds"),
            retry_policy=template.get("retry_policy", {}),
            definition=definition,
            document=dict(template),
        )
        # of several at once, one wins the number or the definition; the others wait for its commit, and look again
        version = db.execute(made.on_conflict_do_nothing().returning(col(RunTemplate.version))).scalar_one_or_none()
        if version is not None:
            return version


def read_record(db: Connection, *, kind: str) -> TemplateRecord:
    """What is recorded of a template."""
    versions = db.execute(select(func.count()).where(col(RunTemplate.kind) == kind)).scalar_one()
    last = db.execute(
        select(func.coalesce(col(Run.started_at), col(Run.created_at)), col(Run.status))
        .where(col(Run.kind) == kind)
        .order_by(col(Run.created_at).desc())
        .limit(1)
    ).one_or_none()
    return TemplateRecord(versions, *(last or (None, None)))
