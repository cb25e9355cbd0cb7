"""The tables of alerts: what held, what is reported of it, and how that went."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Column, Double, ForeignKey, Index, Integer, Text, text
from sqlalchemy.dialects.postgresql import UUID as PgUUID
from sqlmodel import Field

from opsdb.alerts.outbox import Level
from opsdb.schema import SCHEMA, Table, json_column, number_column, one_of, time_column


class AlertIncident(Table, table=True):
    """What is reported together: one rule in one lane, from its first episode until its end was reported.

    Resolved: none of its episodes is active. Closed: that was reported too, and nothing continues it any more.
    """

    __tablename__ = "alert_incidents"
    __table_args__ = (
        Index("uq_alert_incidents_unclosed", "rule", "lane", unique=True, postgresql_where=text("closed_at IS NULL")),
        Index("ix_alert_incidents_closed_at", "closed_at"),
    )

    id: int | None = Field(default=None, sa_column=number_column())
    rule: str = Field(sa_column=Column(Text, nullable=False))
    lane: str = Field(sa_column=Column(Text, nullable=False))
    opened_at: datetime = Field(sa_column=time_column(null=False))
    told_at: datetime | None = Field(default=None, sa_column=time_column())
    resolved_at: datetime | None = Field(default=None, sa_column=time_column())
    closed_at: datetime | None = Field(default=None, sa_column=time_column())
    acknowledged_at: datetime | None = Field(default=None, sa_column=time_column())
    acknowledged_by: str | None = Field(default=None, sa_column=Column(Text))


class AlertEpisode(Table, table=True):
    """One period in which a rule held for one subject. Its row is the order to report it."""

    __tablename__ = "alert_episodes"
    __table_args__ = (
        Index("uq_alert_episodes_open", "rule", "subject", unique=True, postgresql_where=text("resolved_at IS NULL")),
        Index("ix_alert_episodes_ungrouped", "rule", "lane", postgresql_where=text("incident_id IS NULL")),
        Index("ix_alert_episodes_incident_id", "incident_id"),
        Index("ix_alert_episodes_subject", "rule", "subject"),
    )

    id: int | None = Field(default=None, sa_column=number_column())
    incident_id: int | None = Field(
        default=None,
        sa_column=Column(BigInteger, ForeignKey(f"{SCHEMA}.alert_incidents.id", ondelete="CASCADE")),
    )
    rule: str = Field(sa_column=Column(Text, nullable=False))
    lane: str = Field(sa_column=Column(Text, nullable=False))
    subject: str = Field(sa_column=Column(Text, nullable=False))
    kind: str | None = Field(default=None, sa_column=Column(Text))
    run_id: UUID | None = Field(default=None, sa_column=Column(PgUUID(as_uuid=True)))
    facts: dict[str, Any] = Field(default_factory=dict, sa_column=json_column(null=False))
    opened_at: datetime | None = Field(default=None, sa_column=time_column(default_now=True, null=False))
    told_at: datetime | None = Field(default=None, sa_column=time_column())
    resolved_at: datetime | None = Field(default=None, sa_column=time_column())
    end_told_at: datetime | None = Field(default=None, sa_column=time_column())


class AlertMessage(Table, table=True):
    """The outbox: a message as it was written, once for all that it goes to."""

    __tablename__ = "alert_messages"
    __table_args__ = (
        one_of("event", ("firing", "repeat", "ended", "resolved")),
        one_of("level", Level),
        Index("ix_alert_messages_incident_id", "incident_id"),
    )

    id: int | None = Field(default=None, sa_column=number_column())
    incident_id: int = Field(
        sa_column=Column(BigInteger, ForeignKey(f"{SCHEMA}.alert_incidents.id", ondelete="CASCADE"), nullable=False)
    )
    event: str = Field(sa_column=Column(Text, nullable=False))
    body: str = Field(sa_column=Column(Text, nullable=False))
    created_at: datetime | None = Field(default=None, sa_column=time_column(default_now=True, null=False))
    level: str = Field(sa_column=Column(Text, nullable=False))
    title: str = Field(sa_column=Column(Text, nullable=False))


class AlertDelivery(Table, table=True):
    """A message on its way to one destination."""

    __tablename__ = "alert_deliveries"
    __table_args__ = (
        Index(
            "ix_alert_deliveries_pending",
            "destination",
            "message_id",
            postgresql_where=text("delivered_at IS NULL AND dead_at IS NULL"),
        ),
        Index("ix_alert_deliveries_dead", "dead_at", postgresql_where=text("dead_at IS NOT NULL")),
    )

    message_id: int = Field(
        sa_column=Column(BigInteger, ForeignKey(f"{SCHEMA}.alert_messages.id", ondelete="CASCADE"), primary_key=True)
    )
    destination: str = Field(sa_column=Column(Text, primary_key=True))
    attempts: int = Field(default=0, sa_column=Column(Integer, nullable=False, server_default="0"))
    next_attempt_at: datetime | None = Field(default=None, sa_column=time_column(default_now=True, null=False))
    leased_until: datetime | None = Field(default=None, sa_column=time_column())
    delivered_at: datetime | None = Field(default=None, sa_column=time_column())
    dead_at: datetime | None = Field(default=None, sa_column=time_column())
    # how the latest attempt failed
    reason: str | None = Field(default=None, sa_column=Column(Text))
    http_status: int | None = Field(default=None, sa_column=Column(Integer))
    retry_after_seconds: float | None = Field(default=None, sa_column=Column(Double))


class AlertSilence(Table, table=True):
    """Alerts for the rule are silenced until then."""

    __tablename__ = "alert_silences"

    rule: str = Field(sa_column=Column(Text, primary_key=True))
    until_at: datetime = Field(sa_column=time_column(null=False))
    made_at: datetime | None = Field(default=None, sa_column=time_column(default_now=True, null=False))


class AlertTotal(Table, table=True):
    """How often a delivery ended so, ever: `delivered`, or why it failed. Nothing prunes it."""

    __tablename__ = "alert_totals"

    outcome: str = Field(sa_column=Column(Text, primary_key=True))
    count: int = Field(default=0, sa_column=Column(BigInteger, nullable=False, server_default="0"))
