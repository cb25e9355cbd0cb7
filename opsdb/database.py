"""Connections to the ops database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from sqlalchemy import URL, Connection, Engine, create_engine, event, func, make_url, select
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.pool import QueuePool

from opsdb.errors import DatabaseUnavailableError
from opsdb.settings import Settings
from opsdb.shown import shown

R = TypeVar("R")

GONE = (OperationalError, InterfaceError)
"""What SQLAlchemy raises when the server is away, shutting down, or cut off."""


class PatientConnection(psycopg.Connection[Any]):
    """A connection that gives up on a server that is silent for `silent_seconds`.

    A statement timeout is kept by the server, which may be stopped; TCP's timeouts end when the other side's kernel,
    or a proxy on the way, takes what is sent.
    """

    silent_seconds: float | None = None

    def wait(self, gen: PQGen[R], interval: float = 0.1, timeout: float | None = None) -> R:
        """Wait for an answer. Raises OperationalError, and ends the connection, when none comes."""
        try:
            return super().wait(gen, interval, self.silent_seconds if timeout is None else timeout)
        except psycopg.errors._WaitTimeout as error:
            if timeout is not None:
                raise  # the caller asked for it
            self.pgconn.finish()
            raise psycopg.OperationalError(f"the server was silent for {self.silent_seconds:g} s") from error


def driver_url(url: str, *, database: str | None = None) -> URL:
    """The URL as SQLAlchemy takes it, for psycopg, with another database when one is named."""
    parsed = make_url(url).set(drivername="postgresql+psycopg")
    return parsed if database is None else parsed.set(database=database)


def connect(
    settings: Settings, *, role: str | None = "ops_writer", application: str, statement_seconds: float = 30
) -> Engine:
    """An engine for the schema `ops`. Nothing connects before its first use.

    The role is taken on right after connecting, so that one login serves and rights are still those of the role.
    A connection that hears nothing for 10 s is given up; a statement may take `statement_seconds`, and a server that
    does not say even that it took too long is given up `Timings.silent` later.
    """
    return _connect(driver_url(settings.ops_url), settings, role, application, statement_seconds)


def connect_to_prefect(settings: Settings, *, application: str, statement_seconds: float = 30) -> Engine:
    """An engine for Prefect's database, for what its API cannot do: decisions 31, 35 and 48. As `connect`."""
    url = driver_url(settings.ops_url, database=settings.prefect_database)
    return _connect(url, settings, None, application, statement_seconds)


def _connect(url: URL, settings: Settings, role: str | None, application: str, statement_seconds: float) -> Engine:
    silent_seconds = statement_seconds + settings.timings.silent
    engine = create_engine(
        url,
        poolclass=QueuePool,
        pool_size=2,
        pool_pre_ping=True,
        connect_args={
            "application_name": f"ops {application}",
            "connect_timeout": 3,
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            "tcp_user_timeout": 10_000,
            "options": f"-c statement_timeout={int(statement_seconds * 1000)} -c timezone=UTC "
            "-c search_path=ops,pg_catalog -c idle_in_transaction_session_timeout=60000",
        },
    )

    @event.listens_for(engine, "do_connect")
    def connect_patiently(_dialect: object, _record: object, cargs: list[Any], cparams: dict[str, Any]) -> object:
        connection = PatientConnection.connect(*cargs, **cparams)
        connection.silent_seconds = silent_seconds
        return connection

    if role is not None:

        @event.listens_for(engine, "connect")
        def take_on_role(connection: object, _record: object) -> None:
            connection.execute(f"SET ROLE {role}")  # type: ignore[attr-defined]  # psycopg's, untyped here
            connection.commit()  # type: ignore[attr-defined]

    return engine


@contextmanager
def reachable(what: str = "the ops database") -> Iterator[None]:
    """Turn a lost or refused connection into one line for the operator."""
    try:
        yield
    except GONE as error:
        reason = first_line(error)
        raise DatabaseUnavailableError(
            f"{what} does not answer ({reason}). `ops status` shows what runs; `ops up` starts the room."
        ) from error


@contextmanager
def writing(settings: Settings, *, application: str) -> Iterator[Connection]:
    """One transaction on a connection of its own. Raises RoomUnreachableError that says what to do."""
    engine = connect(settings, application=application)
    try:
        with reachable(), engine.begin() as db:
            yield db
    finally:
        engine.dispose()


def clock_ahead(db: Connection) -> timedelta:
    """How far the database's clock is ahead of this host's: times that others compare with theirs are its times."""
    now: datetime = db.execute(select(func.clock_timestamp())).scalar_one()
    return now - datetime.now(UTC)


def server_is_down(error: BaseException) -> bool:
    """Whether the server itself, or its host, said that it is absent; false for mere silence."""
    said = str(error)
    return any(
        sign in said
        for sign in (
            "Connection refused",
            "No such file",
            "is shutting down",
            "is starting up",
            "recovery mode",
            "terminating connection",
            "server closed the connection",
        )
    )


def first_line(error: DBAPIError | BaseException) -> str:
    """The first line of what the server or the driver said, without SQL and without values."""
    original = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    return shown((str(original).strip().split("\n") or [""])[0][:300]) or type(original).__name__
