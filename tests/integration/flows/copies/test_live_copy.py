"""A staging copy of production as it is now: backed up first, and then left to others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from flows.copies.choice import choose
from flows.engine import runbook as recording
from flows.engine.active_run import ActiveRun
from flows.engine.dry_run import dry_run
from flows.odoo_staging_copy import odoo_staging_copy
from opsdb.database import connect
from opsdb.errors import PreflightError
from opsdb.runs.locks import holder_of, take_resource
from opsdb.runs.runs import apply_states
from opsdb.settings import Settings, load_settings
from opsdb.tables import StepStatus
from tests.integration.flows.copies.copied_odoo import Copied, next_day
from tests.integration.flows.recorded import recorded
from tests.support.folders import names
from tests.support.recorded_runs import make_facts, make_states


def live(copied: Copied) -> dict[str, Any]:
    """The parameters."""
    filestore = str(copied.filestore)
    return {"odoo_db": copied.staging, "backup": copied.production, "filestore_dir": filestore, "live": True}


def test_live_copy_is_of_now(copied: Copied) -> None:
    next_day(copied, backed_up=False)
    result = odoo_staging_copy(**live(copied))
    assert copied.check_whole() == "second day"
    with pytest.raises(PreflightError, match=f"live: {result['backup']} is a backup already"):
        odoo_staging_copy(copied.staging, result["backup"], live=True)


def test_dry_run_names_production_as_the_source_and_no_older_backup(
    copied: Copied, folder: Path, told: list[str]
) -> None:
    older = {name for name in names(folder) if name.startswith(copied.production)}
    for _ in range(2):
        planned = dry_run(odoo_staging_copy, live(copied), settings=load_settings())
        assert (planned.error, planned.warnings) == (None, [])
        text = json.dumps([[one.command, dict(one.environment)] for one in planned.steps])
        assert [name for name in older if name in text] == []
        about = next(one.command for one in planned.steps if one.name == "choose")
        how = choose(odoo=True, as_production=False).how
        first = (
            f"{copied.staging} will be published {how}; the source is {copied.production} as it is now: this run backs"
        )
        assert about.startswith(first)
        assert told[0] == about
        assert [one.name for one in planned.steps if one.name in ("pg_dump", "restore", "swap")] == [
            "pg_dump",
            "restore",
            "swap",
        ]
        shutil.rmtree(folder, ignore_errors=True)  # nor does it need one


def test_database_that_is_not_an_odoos_is_refused_before_it_is_backed_up(database: str, folder: Path) -> None:
    with pytest.raises(PreflightError, match=f"backup: {database} is not an Odoo's"):
        odoo_staging_copy(f"{database}_staging", database, live=True)
    assert not folder.exists()


def test_others_work_on_production_while_its_copy_is_restored(
    copied: Copied, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert settings.database_url is not None
    monkeypatch.setenv("OPS_ODOO_DATABASE_URL", copied.postgres.format(database="postgres"))
    monkeypatch.setenv("OPS_DATABASE_URL", settings.database_url.get_secret_value())
    engine, other, begun = connect(settings, application="test"), make_facts(), dict[str, bool]()
    with engine.begin() as db:
        apply_states(db, facts=other, states=make_states("SCHEDULED", "PENDING", "RUNNING"))

    def begin_other(name: str, _status: StepStatus) -> None:
        """As another run would that needs production for itself."""
        if name in ("pg_dump", "restore"):
            resource = f"odoo_db:{copied.production}"
            with engine.begin() as db:
                begun[name] = take_resource(db, resource=resource, run_id=other.id, attempt=1, deadline_seconds=60)
                assert holder_of(db, f"odoo_db:{copied.staging}") == runs[-1].id

    with recorded(heard=begin_other) as runs, pytest.MonkeyPatch.context() as patch:
        make = vars(recording)["ActiveRun"]

        def locking(**facts: Any) -> ActiveRun:
            run: ActiveRun = make(**facts)
            run.acquire = lambda resource: recording._acquire(run, resource, 60)
            run.release = lambda resource: recording._release(run, resource)
            return run

        patch.setattr(recording, "ActiveRun", locking)
        odoo_staging_copy(**live(copied))
    engine.dispose()
    assert begun == {"pg_dump": False, "restore": True}
