from __future__ import annotations

import inspect
import shlex
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from prefect.utilities.callables import parameter_schema

from cli.run.params import parameters, split_assignments
from flows import nightly_backup as module
from flows.engine.active_run import ActiveRun, activated
from opsdb.errors import MissedError
from opsdb.settings import Settings


@pytest.mark.parametrize(
    "given",
    [
        {"databases": ["odoo_prod"], "retention_days": 30, "restore_drill": False},
        {
            "databases": ["shop-1", "shop.2"],
            "retention_days": 7,
            "restore_drill": True,
            "backup_dir": "/mnt/@backups,~new",
            "target": "spaces",
        },
    ],
)
def test_missed_tick_says_a_command_that_backs_up_the_same(
    given: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    due_at = datetime(2026, 11, 25, 2, tzinfo=UTC)
    late = lambda: due_at + timedelta(hours=10)  # noqa: E731
    run = ActiveRun(uuid4(), 1, Settings(home=tmp_path), lambda _entry: None, in_lane=False, due_at=due_at, clock=late)
    monkeypatch.setattr(module.Night, "read_tries", lambda _night: {})
    # what comes after the look at the clock would need a database
    monkeypatch.setattr(module, "action", lambda _name, work, **_how: work())
    with activated(run), pytest.raises(MissedError) as raised:
        inspect.unwrap(module.nightly_backup.fn)(**given)
    said = str(raised.value).partition("To back up the same now: ")[2]
    ops, command, kind, *options = shlex.split(said)
    assert (ops, command, kind) == ("ops", "run", "nightly_backup")
    assert set(options[::2]) == {"-p"}
    schema = parameter_schema(module.nightly_backup.fn).model_dump_for_openapi()
    assert parameters(split_assignments(options[1::2]), schema=schema, defaults={}) == given
