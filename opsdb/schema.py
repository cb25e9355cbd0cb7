"""What the tables of the schema `ops` share: their base, and columns of which there are many."""

import enum
from typing import Any, ClassVar

from sqlalchemy import BigInteger, CheckConstraint, Column, DateTime, ForeignKey, Identity, MetaData, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql import UUID as PgUUID
from sqlmodel import SQLModel

SCHEMA = "ops"


class Table(SQLModel):
    """What all tables of the schema share."""

    metadata: ClassVar[MetaData] = MetaData(
        schema=SCHEMA,
        naming_convention={
            "ix": "ix_%(column_0_N_label)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        },
    )


def time_column(*, default_now: bool = False, null: bool = True) -> Any:
    """A time with its zone."""
    return Column(
        DateTime(timezone=True), nullable=null, server_default=func.clock_timestamp() if default_now else None
    )


def json_column(*, null: bool = True) -> Any:
    """A JSON object: empty by default, unless it may be null."""
    return Column(JSONB(none_as_null=True), nullable=null, server_default=None if null else text("'{}'::jsonb"))


def number_column() -> Any:
    """The primary key of rows that are numbered as they come."""
    return Column(BigInteger, Identity(), primary_key=True)


def run_id_column(*, primary_key: bool = False) -> Any:
    """The run that a row belongs to, and goes with."""
    return Column(
        PgUUID(as_uuid=True),
        ForeignKey(f"{SCHEMA}.runs.id", ondelete="CASCADE"),
        primary_key=primary_key,
        nullable=False,
    )


def one_of(column: str, values: type[enum.StrEnum] | tuple[str, ...]) -> CheckConstraint:
    """The column holds one of these texts."""
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=column)
