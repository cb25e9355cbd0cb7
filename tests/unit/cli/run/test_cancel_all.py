"""`ops cancel --all`: which runs are asked to end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import pytest

from cli.run import cancel_all
from deployments.server import runs as prefect_server
from opsdb.runs.lookup import RunView, short_id
from opsdb.runs.origins import started_by_run
from opsdb.settings import Settings
from opsdb.states import RunStatus
from opsdb.tables import Lane
from tests.support.runs_made_up import details


def view(kind: str, *, name: str | None = None, starter: RunView | None = None) -> RunView:
    found = details(status=RunStatus.QUEUED, text=kind).view
    found.run.name = name
    origin = started_by_run(short_id(starter.run.id), starter.run.kind) if starter else "command line by bob"
    return RunView(
        run=found.run, session="s", now=found.now, waits_for_approval=False, origin=origin.removeprefix("started by ")
    )


def test_ends_what_was_listed_and_what_it_starts_and_nothing_of_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    night = view("nightly_backup", name="2 databases \u00b7 nightly")
    backup = view("odoo_db_backup", name="odoo_prod \u00b7 backup", starter=night)
    drill = view("odoo_restore_drill", starter=backup)
    rounds = [[night], [view("of_bob"), backup, night], [view("of_bob"), drill], []]
    filters: list[dict[str, Any]] = []
    asked: list[UUID] = []

    def list_runs(_db: object, **wanted: Any) -> list[RunView]:
        filters.append(wanted)
        return rounds.pop(0)

    @contextmanager
    def nothing(_settings: object) -> Iterator[None]:
        yield None

    monkeypatch.setattr(cancel_all, "reading", nothing)
    monkeypatch.setattr(prefect_server, "connect", nothing)
    monkeypatch.setattr(cancel_all, "list_runs", list_runs)
    monkeypatch.setattr(cancel_all, "ask_to_cancel", lambda _settings, _server, run_id, message: asked.append(run_id))
    monkeypatch.setattr(cancel_all, "read_statuses", lambda _db, ids: dict.fromkeys(ids, RunStatus.CANCELLED))
    cancel_all.cancel_all(
        Settings(), kind="nightly_backup", lane=Lane.A, about=None, yes=True, as_json=False, pause=lambda _seconds: None
    )
    assert asked == [night.run.id, backup.run.id, drill.run.id]
    # what a run starts may be of another kind, and in another lane
    assert [(one.get("kind"), one.get("lane")) for one in filters] == [("nightly_backup", Lane.A)] + [(None, None)] * 3
    said = capsys.readouterr().out
    assert f"{short_id(backup.run.id)} odoo_prod \u00b7 backup: cancelled" in said
    assert "3 of 3 cancelled." in said
