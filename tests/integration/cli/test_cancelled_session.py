"""A session that was cancelled gets no run, also not from who began before it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from deployments.server import runs as prefect_server
from deployments.server.runs import Cancelled, Started
from deployments.server.startable import Startable
from opsdb.runs.sessions import cancel_session, ensure_session, is_cancelled, make_session
from tests.integration.cli.conftest import Ops
from tests.support.alerts_lab import Lab
from tests.support.runs_made_up import FakePrefect

BACKUP = ("run", "odoo_db_backup", "-p", "database=shop", "--session")


class Hurried(FakePrefect):
    """Somebody cancels the session just before a run is started, and does not see that run."""

    cancel_the_session: Callable[[], None]
    cancelled: list[UUID]
    retried: list[UUID]

    def start(self, startable: Startable, **how: Any) -> Started:
        self.cancel_the_session()
        return super().start(startable, **how)

    def retry(self, run_id: UUID, **_how: Any) -> None:
        self.cancel_the_session()
        self.retried.append(run_id)

    def cancel(self, run_id: UUID, *, message: str) -> Cancelled:
        self.cancelled.append(run_id)
        return super().cancel(run_id, message=message)


@pytest.fixture
def session(lab: Lab) -> UUID:
    with lab.engine.begin() as db:
        return make_session(db, name="release")


@pytest.fixture
def prefect(lab: Lab, session: UUID, monkeypatch: pytest.MonkeyPatch) -> Hurried:
    fake = Hurried()
    fake.cancel_the_session = lambda: cancel(lab, session)
    fake.cancelled, fake.retried = [], []

    @contextmanager
    def connected(_settings: object) -> Iterator[FakePrefect]:
        yield fake

    monkeypatch.setattr(prefect_server, "connect", connected)
    return fake


def cancel(lab: Lab, session: UUID) -> None:
    with lab.engine.begin() as db:
        cancel_session(db, session)


def failed_in(lab: Lab, session: UUID) -> UUID:
    run_id = lab.run()
    lab.finish(run_id)
    lab.sql("UPDATE ops.runs SET session_id = :session WHERE id = :id", session=session, id=run_id)
    return run_id


def test_run_that_starts_while_its_session_is_cancelled_is_cancelled_too(
    ops: Ops, session: UUID, prefect: Hurried
) -> None:
    code, out, err = ops(*BACKUP, str(session))
    assert (code, out) == (2, "")
    assert f"session {session} was cancelled meanwhile" in err
    assert prefect.cancelled == [prefect.run_id]


def test_retry_of_a_run_whose_session_was_cancelled_is_refused(
    ops: Ops, lab: Lab, session: UUID, prefect: Hurried
) -> None:
    run_id = failed_in(lab, session)
    cancel(lab, session)
    code, _, err = ops("retry", str(run_id))
    assert code == 2
    assert "was cancelled" in err
    assert "start another: ops run k" in err
    assert prefect.retried == []


def test_retry_while_its_session_is_cancelled_is_cancelled_too(
    ops: Ops, lab: Lab, session: UUID, prefect: Hurried
) -> None:
    run_id = failed_in(lab, session)
    code, _, err = ops("retry", str(run_id))
    assert code == 2
    assert "was cancelled meanwhile" in err
    assert (prefect.retried, prefect.cancelled) == ([run_id], [run_id])


def test_session_that_only_gathers_runs_cannot_be_cancelled(ops: Ops, lab: Lab) -> None:
    with lab.engine.begin() as db:
        ad_hoc = ensure_session(db, session_id=None, created_at=datetime(2026, 3, 1, tzinfo=UTC))
    code, _, err = ops("session", "cancel", str(ad_hoc))
    assert code == 2
    assert "Ad hoc 2026-03-01 only gathers what was started outside a session" in err
    assert "ops cancel RUN" in err
    with lab.engine.begin() as db:
        assert not is_cancelled(db, ad_hoc)
