"""The tables of the schema `ops`, but those of alerts and totals. Migrations make them; a test holds the two equal."""

import enum
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    Enum,
    ForeignKey,
    Index,
    Integer,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql import UUID as PgUUID
from sqlmodel import Field

from opsdb.proven import FAILED_BACKUP, GOOD_BACKUP, OTHER_BACKUP
from opsdb.schema import SCHEMA, Table, json_column, one_of, run_id_column, time_column
from opsdb.states import RunStatus


class Lane(enum.StrEnum):
    """A lane: one work pool of Prefect's."""

    A = "A"
    B = "B"
    C = "C"
    D = "D"

    @property
    def pool(self) -> str:
        """The name of the lane's work pool."""
        return f"lane-{self.lower()}"


class StepStatus(enum.StrEnum):
    """The status of one step.

    Interrupted: its run ended meanwhile, and how the step ended is not known. Suspended: its attempt ended there, to
    wait for an approval. Skipped: it succeeded in an earlier attempt, and that stands.
    """

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"
    SUSPENDED = "suspended"
    SKIPPED = "skipped"


def by_database(name: str, order: str, *, where: str) -> Index:
    """An index that finds a backup of a database without a look at its others: the first in this order."""
    return Index(name, text("(params ->> 'odoo_db')"), text(order), postgresql_where=text(where))


class Session(Table, table=True):
    """An operator's grouping of runs."""

    __tablename__ = "sessions"
    __table_args__ = (
        one_of("triggered_by", ("manual", "schedule", "github", "api")),
        one_of("status", ("active", "completed", "cancelled")),
        Index("ix_sessions_name", "name"),
    )

    id: UUID = Field(default_factory=uuid4, sa_column=Column(PgUUID(as_uuid=True), primary_key=True))
    created_at: datetime | None = Field(default=None, sa_column=time_column(default_now=True, null=False))
    updated_at: datetime | None = Field(default=None, sa_column=time_column(default_now=True, null=False))
    name: str = Field(sa_column=Column(Text, nullable=False))
    description: str | None = Field(default=None, sa_column=Column(Text))
    triggered_by: str = Field(default="manual", sa_column=Column(Text, nullable=False, server_default="manual"))
    status: str = Field(default="active", sa_column=Column(Text, nullable=False, server_default="active"))
    context: dict[str, Any] = Field(default_factory=dict, sa_column=json_column(null=False))


class Run(Table, table=True):
    """One execution of a runbook. Its status and times are the fold of its `run_states`."""

    __tablename__ = "runs"
    __table_args__ = (
        one_of("status", RunStatus),
        CheckConstraint("outcome IN ('succeeded', 'failed')", name="outcome"),
        CheckConstraint(
            "(finished_at IS NOT NULL) = (status IN ('succeeded', 'failed', 'cancelled'))", name="finished"
        ),
        # without heartbeat_at, so that heartbeats stay HOT updates
        Index("ix_runs_unfinished", "lane", "status", postgresql_where=text("finished_at IS NULL")),
        Index("ix_runs_session_id", "session_id"),
        Index("ix_runs_status_lane", "status", "lane"),
        Index("ix_runs_created_at", "created_at"),
        Index("ix_runs_name", "name"),
        # of each database its last good backup, its first and last try that made none, and its last failure
        by_database("ix_runs_last_backup", "finished_at DESC", where=GOOD_BACKUP),
        by_database("ix_runs_first_tries", "LEAST(created_at, started_at)", where=OTHER_BACKUP),
        by_database("ix_runs_last_tries", "GREATEST(created_at, started_at) DESC", where=OTHER_BACKUP),
        by_database("ix_runs_failed_backups", "finished_at DESC", where=FAILED_BACKUP),
        Index("ix_runs_finished_at", "finished_at", postgresql_where=text("finished_at IS NOT NULL")),
        Index("ix_runs_deleted_at", "deleted_at", postgresql_where=text("deleted_at IS NOT NULL")),
    )

    id: UUID = Field(sa_column=Column(PgUUID(as_uuid=True), primary_key=True))
    session_id: UUID = Field(
        sa_column=Column(PgUUID(as_uuid=True), ForeignKey(f"{SCHEMA}.sessions.id"), nullable=False)
    )
    kind: str = Field(sa_column=Column(Text, nullable=False))
    # what people call it, see opsdb/kinds/subjects.py; as Prefect has it
    name: str | None = Field(default=None, sa_column=Column(Text))
    lane: Lane = Field(
        sa_column=Column(
            Enum(Lane, name="lane_type", schema=SCHEMA, values_callable=lambda lanes: [lane.value for lane in lanes]),
            nullable=False,
        )
    )
    priority: int = Field(default=0, sa_column=Column(Integer, nullable=False, server_default="0"))
    status: RunStatus = Field(default=RunStatus.QUEUED, sa_column=Column(Text, nullable=False, server_default="queued"))
    attempt: int = Field(default=1, sa_column=Column(Integer, nullable=False, server_default="1"))
    params: dict[str, Any] = Field(default_factory=dict, sa_column=json_column(null=False))
    result: dict[str, Any] | None = Field(default=None, sa_column=json_column())
    error: dict[str, Any] | None = Field(default=None, sa_column=json_column())
    claimed_by: str | None = Field(default=None, sa_column=Column(Text))
    claimed_at: datetime | None = Field(default=None, sa_column=time_column())
    started_at: datetime | None = Field(default=None, sa_column=time_column())
    heartbeat_at: datetime | None = Field(default=None, sa_column=time_column())
    deadline_at: datetime | None = Field(default=None, sa_column=time_column())
    finished_at: datetime | None = Field(default=None, sa_column=time_column())
    created_at: datetime = Field(sa_column=time_column(default_now=True, null=False))
    updated_at: datetime | None = Field(default=None, sa_column=time_column(default_now=True, null=False))
    max_attempts: int = Field(default=1, sa_column=Column(Integer, nullable=False, server_default="1"))
    fenced_at: datetime | None = Field(default=None, sa_column=time_column())
    fence_reason: str | None = Field(default=None, sa_column=Column(Text))
    reaped_at: datetime | None = Field(default=None, sa_column=time_column())
    # what the run process said itself of how its attempt ended, before Prefect had it
    outcome: str | None = Field(default=None, sa_column=Column(Text))
    outcome_at: datetime | None = Field(default=None, sa_column=time_column())
    # what no other run may hold meanwhile, see RunLock
    resource: str | None = Field(default=None, sa_column=Column(Text))
    # the one that another run holds, while this one waits for it
    waits_for_resource: str | None = Field(default=None, sa_column=Column(Text))
    state_id: UUID = Field(sa_column=Column(PgUUID(as_uuid=True), nullable=False))
    state_at: datetime = Field(sa_column=time_column(null=False))
    # for which schedule and due time it was planned, in Prefect's words; None when somebody asked for it
    tick: str | None = Field(default=None, sa_column=Column(Text))
    # since when Prefect is known not to have it any more, while this record was not at its end
    deleted_at: datetime | None = Field(default=None, sa_column=time_column())
    # when it was to start, where somebody chose the time: one that is queued may be planned for next week
    due_at: datetime | None = Field(default=None, sa_column=time_column())


class RunState(Table, table=True):
    """One state that was reported of a run. Insert-only.

    Source `prefect`: with the id and the time Prefect gave it. Source `room`: the sweeper's verdict on a run that
    nobody else would end; it is pushed to Prefect, whose own state then follows it.
    """

    __tablename__ = "run_states"
    __table_args__ = (one_of("source", ("prefect", "room")), Index("ix_run_states_run_id_at", "run_id", "at"))

    id: UUID = Field(sa_column=Column(PgUUID(as_uuid=True), primary_key=True))
    run_id: UUID = Field(sa_column=run_id_column())
    at: datetime = Field(sa_column=time_column(null=False))
    type: str = Field(sa_column=Column(Text, nullable=False))
    name: str = Field(sa_column=Column(Text, nullable=False))
    message: str | None = Field(default=None, sa_column=Column(Text))
    source: str = Field(default="prefect", sa_column=Column(Text, nullable=False, server_default="prefect"))
    recorded_at: datetime | None = Field(default=None, sa_column=time_column(default_now=True, null=False))
    due_at: datetime | None = Field(default=None, sa_column=time_column())


class RunStep(Table, table=True):
    """One step of one attempt of a run."""

    __tablename__ = "run_steps"
    __table_args__ = (one_of("status", StepStatus),)

    run_id: UUID = Field(sa_column=run_id_column(primary_key=True))
    attempt: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    index: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    name: str = Field(sa_column=Column(Text, nullable=False))
    status: StepStatus = Field(sa_column=Column(Text, nullable=False))
    command: str = Field(sa_column=Column(Text, nullable=False))
    timeout_seconds: float = Field(sa_column=Column(Double, nullable=False))
    started_at: datetime | None = Field(default=None, sa_column=time_column(null=False))
    finished_at: datetime | None = Field(default=None, sa_column=time_column())
    exit_code: int | None = Field(default=None, sa_column=Column(Integer))
    error: str | None = Field(default=None, sa_column=Column(Text))
    # the version of the runbook that it is a step of; of a template a hash
    definition: str | None = Field(default=None, sa_column=Column(Text))
    # how far it is, see opsdb/progress.py; nothing once it is over
    progress: dict[str, Any] | None = Field(default=None, sa_column=json_column())
    # what it made lives no longer than its attempt
    must_run_again: bool = Field(default=False, sa_column=Column(Boolean, nullable=False, server_default=text("false")))


class StepResult(Table, table=True):
    """What the runbook got from a step, for an attempt that resumes: not for readers, and gone when the run succeeds.

    `{"stdout": ...}`, masked and bounded, or `{"value": ...}` of an action.
    """

    __tablename__ = "step_results"

    run_id: UUID = Field(sa_column=run_id_column(primary_key=True))
    attempt: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    index: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    result: dict[str, Any] = Field(sa_column=json_column(null=False))


class RunLock(Table, table=True):
    """Who holds a resource, `odoo_db:odoo_prod` for instance: that attempt of a run, while it is not over."""

    __tablename__ = "run_locks"

    resource: str = Field(sa_column=Column(Text, primary_key=True))
    run_id: UUID = Field(sa_column=run_id_column())
    attempt: int = Field(sa_column=Column(Integer, nullable=False))
    taken_at: datetime | None = Field(default=None, sa_column=time_column(default_now=True, null=False))


class RunEvent(Table, table=True):
    """Something that happened in a run and that an operator may want to know."""

    __tablename__ = "run_events"
    __table_args__ = (
        one_of("level", ("debug", "info", "warning", "error")),
        Index("ix_run_events_run_id_created_at", "run_id", "created_at"),
        Index("ix_run_events_errors", "created_at", postgresql_where=text("level = 'error'")),
    )

    id: UUID = Field(default_factory=uuid4, sa_column=Column(PgUUID(as_uuid=True), primary_key=True))
    run_id: UUID = Field(sa_column=run_id_column())
    created_at: datetime | None = Field(default=None, sa_column=time_column(default_now=True, null=False))
    level: str = Field(default="info", sa_column=Column(Text, nullable=False, server_default="info"))
    message: str = Field(sa_column=Column(Text, nullable=False))
    data: dict[str, Any] = Field(default_factory=dict, sa_column=json_column(null=False))


class Artifact(Table, table=True):
    """Something a run made: a file, a link or a text of at most 1 MB."""

    __tablename__ = "artifacts"
    __table_args__ = (
        one_of("kind", ("file", "link", "text")),
        CheckConstraint("octet_length(content_text) <= 1048576", name="content_text_size"),
        Index("ix_artifacts_run_id", "run_id"),
    )

    id: UUID = Field(default_factory=uuid4, sa_column=Column(PgUUID(as_uuid=True), primary_key=True))
    run_id: UUID = Field(sa_column=run_id_column())
    created_at: datetime | None = Field(default=None, sa_column=time_column(default_now=True, null=False))
    kind: str = Field(sa_column=Column(Text, nullable=False))
    name: str = Field(sa_column=Column(Text, nullable=False))
    storage_path: str | None = Field(default=None, sa_column=Column(Text))
    content_text: str | None = Field(default=None, sa_column=Column(Text))
    content_url: str | None = Field(default=None, sa_column=Column(Text))
    size_bytes: int | None = Field(default=None, sa_column=Column(BigInteger))
    mime_type: str | None = Field(default=None, sa_column=Column(Text))
    sha256: str | None = Field(default=None, sa_column=Column(Text))
    details: dict[str, Any] = Field(
        default_factory=dict,
        sa_column=Column("metadata", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    )


class SyncMark(Table, table=True):
    """How far `ops sync` has come, and when it last said so."""

    __tablename__ = "sync_marks"

    name: str = Field(sa_column=Column(Text, primary_key=True))
    at: datetime = Field(sa_column=time_column(null=False))
    updated_at: datetime | None = Field(default=None, sa_column=time_column(default_now=True, null=False))


class Worker(Table, table=True):
    """One lane that a worker process serves: it says so every few seconds, and takes the row away when it ends."""

    __tablename__ = "workers"

    name: str = Field(sa_column=Column(Text, primary_key=True))
    lane: str = Field(sa_column=Column(Text, primary_key=True))
    host: str = Field(sa_column=Column(Text, nullable=False))
    started_at: datetime | None = Field(default=None, sa_column=time_column(default_now=True, null=False))
    heartbeat_at: datetime | None = Field(default=None, sa_column=time_column(default_now=True, null=False))
