"""What is changed in a restored database after it was compared, and before it gets owners and a name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import psycopg

from flows.backup.inventory import ROLES
from flows.backup.manifest import Manifest
from flows.backup.pinned import pin_settings
from flows.backup.postgres import Connection
from flows.engine.step import action
from flows.restore.comparison import NOT_MADE, check_same, differences_from
from flows.restore.load import ANALYZE_SECONDS
from flows.restore.scratch import Scratch
from opsdb.database import first_line
from opsdb.errors import StepFailedError

CHANGE_SECONDS = 7200


class Change(Protocol):
    """Work on the rows of a restored database, over the login without rights that loaded it: triggers may execute."""

    about: str
    """What it does, for the step."""

    def make(self, db: Connection) -> bool:
        """Change rows; returns whether any statement was sent. Raises StepFailedError."""

    def prove(self, db: Connection) -> None:
        """Look at what is there in the end. Raises StepFailedError where the database must not be published."""


def changed(change: Change, scratch: Scratch, manifest: Manifest) -> None:
    """Make a change as a step of the current runbook; objects must be those of the backup afterwards, too."""
    action("neutralise", lambda: _make(change, scratch, manifest), about=change.about, must_run_again=True)


def _make(change: Change, scratch: Scratch, manifest: Manifest) -> None:
    try:
        with _session(scratch) as db:
            made = change.make(db)
        if made:
            with _session(scratch, seconds=ANALYZE_SECONDS) as db:
                _analyze(db)
        # what triggers left in that session, such as types and casts of their own, shall blind nobody
        with _session(scratch) as db:
            if made:
                # what is handed over next must not be other code than was compared
                only_objects = manifest.model_copy(update={"contents": None})
                check_same(differences_from(only_objects, db, without={*ROLES, *NOT_MADE}))
        with _session(scratch) as db:
            change.prove(db)
    except psycopg.Error as error:
        raise StepFailedError(f"cannot neutralise the restored database: {first_line(error)}") from error


def _analyze(db: Connection) -> None:
    try:
        db.execute("ANALYZE")
    except psycopg.Error as error:
        raise StepFailedError(
            "the planner's statistics still show previous values, and cannot be collected again: "
            f"{first_line(error)}. Nothing was published"
        ) from error


@contextmanager
def _session(scratch: Scratch, *, seconds: float = CHANGE_SECONDS) -> Iterator[Connection]:
    with scratch.connect_to_load() as db:
        pin_settings(db, statement_seconds=seconds)
        db.execute("SET search_path = pg_catalog, pg_temp")  # else a session's own types come first
        yield db
