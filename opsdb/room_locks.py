"""Locks of the room's own processes: rows that only the room's writing role can lock (docs/decisions/0020).

A lock ends with its transaction. Who holds one, or keeps a process of the room waiting, can be named from outside.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Column, Connection, Text, select, text
from sqlmodel import Field, col

from opsdb.errors import OpsError
from opsdb.schema import Table


class RoomLock(Table, table=True):
    """Work of the room that one process does at a time. The rows stand in the migration; nobody adds or changes one."""

    __tablename__ = "room_locks"

    name: str = Field(sa_column=Column(Text, primary_key=True))


class Lock(StrEnum):
    """The rows of `ops.room_locks`."""

    ALERTER = "alerter"
    """Looking at the rules and writing messages: the alerters of several hosts take turns."""
    PRUNE = "prune"
    """Deleting what is old."""
    TOTALS = "totals"
    """Adding up what was counted."""
    VERDICTS = "verdicts"
    """Setting states in Prefect, which does not compare and set."""


@dataclass(frozen=True)
class Holder:
    """A database session that others wait for."""

    role: str
    application: str
    pid: int

    def __str__(self) -> str:
        """Its role, its application and its pid, for an operator."""
        return f"role {self.role!r} (application {self.application!r}, pid {self.pid})"


class LockedError(OpsError):
    """Another process does this work of the room already."""

    def __init__(self, lock: Lock, holder: Holder | None) -> None:
        who = holder or "another process"
        super().__init__(f"{who} holds the lock {lock}: wait for its end; whichever is ended, the next one continues")


@dataclass(frozen=True)
class Hindrance:
    """What keeps a part of the room from its work. `transaction` distinguishes two of one holder."""

    part: str
    what: str
    holder: Holder
    transaction: str


# A row that is locked names its locker's transaction in xmax. No rights beyond those of a reader are needed for this.
_HELD = """
FROM ops.room_locks l
     JOIN pg_locks t ON t.locktype = 'transactionid' AND t.mode = 'ExclusiveLock' AND t.transactionid = l.xmax
     JOIN pg_stat_activity a ON a.pid = t.pid
"""
_HOLDER = text(f"""
SELECT coalesce(a.usename::text, '(the server)') AS role, a.application_name AS application, a.pid
{_HELD} WHERE l.name = :name
""")
_HINDRANCES = f"""
SELECT CASE l.name WHEN 'alerter' THEN 'alerter' ELSE 'sync' END AS part, 'the lock ' || l.name AS what,
       coalesce(a.usename::text, '(the server)') AS role, a.application_name AS application, a.pid,
       l.xmax::text AS transaction
{_HELD}
WHERE l.name <> 'prune' -- the room does its work while something else prunes
UNION
SELECT substr(w.application_name, 5), 'a lock that its session ' || w.pid || ' waits for',
       coalesce(a.usename::text, '(the server)'), a.application_name, a.pid, coalesce(l.waitstart::text, '')
FROM pg_stat_activity w
     JOIN pg_locks l ON l.pid = w.pid AND NOT l.granted
     CROSS JOIN LATERAL unnest(pg_blocking_pids(w.pid)) AS b(pid)
     JOIN pg_stat_activity a ON a.pid = b.pid
WHERE w.datname = current_database() AND starts_with(w.application_name, 'ops ')
      AND pg_has_role(w.usesysid, 'ops_writer', 'MEMBER')
ORDER BY 1, 2, 5
"""  # noqa: S608 - of texts of ours
_BLOCKING = text("""
SELECT coalesce(a.usename::text, '(the server)') AS role, a.application_name AS application, a.pid
FROM unnest(pg_blocking_pids(:pid)) AS b(pid) JOIN pg_stat_activity a ON a.pid = b.pid ORDER BY a.pid
""")


def try_lock(db: Connection, lock: Lock) -> bool:
    """Take a lock until the transaction ends. False while another one holds it."""
    wanted = select(col(RoomLock.name)).where(col(RoomLock.name) == lock).with_for_update(skip_locked=True)
    return db.scalar(wanted) is not None


def read_holder(db: Connection, lock: Lock) -> Holder | None:
    """Who holds a lock at this moment."""
    row = db.execute(_HOLDER, {"name": lock}).first()
    return None if row is None else Holder(row.role, row.application, row.pid)


class LastingLock:
    """A lock for work of minutes or hours, which is renewed between two batches of it.

    One transaction over all of that would keep vacuum from what was deleted since it began. Where another one takes the
    lock between two transactions, the renewal fails, so that still only one of them continues.
    """

    def __init__(self, db: Connection, lock: Lock) -> None:
        self._db = db
        self._lock = lock

    def renew(self) -> None:
        """Take the lock, or keep it. Raises LockedError that says who has it."""
        self._db.rollback()
        self._db.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))  # a batch may take longer
        if not try_lock(self._db, self._lock):
            raise LockedError(self._lock, read_holder(self._db, self._lock))


def read_hindrances(db: Connection) -> list[Hindrance]:
    """Who holds a lock of the room at this moment, or one that a process of the room waits for."""
    return [
        Hindrance(row.part, row.what, Holder(row.role, row.application, row.pid), row.transaction)
        for row in db.execute(text(_HINDRANCES))
    ]


def read_blocking(db: Connection, *, pid: int) -> list[Holder]:
    """The sessions that a session of this server waits for."""
    return [Holder(row.role, row.application, row.pid) for row in db.execute(_BLOCKING, {"pid": pid})]
