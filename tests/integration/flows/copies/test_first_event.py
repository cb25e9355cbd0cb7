"""The first event of a run says how its database is published, before any other does. So does a dry run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from prefect import Flow

from flows.engine.active_run import ActiveRun
from flows.engine.dry_run import dry_run
from flows.odoo_db_backup import odoo_db_backup
from flows.odoo_db_restore import odoo_db_restore
from flows.odoo_staging_copy import odoo_staging_copy
from opsdb.errors import OpsError
from opsdb.settings import load_settings
from tests.integration.flows.copies.copied_odoo import Copied

Begin = Callable[[Flow[..., Any], dict[str, Any]], None]


def begin(runbook: Flow[..., Any], parameters: dict[str, Any]) -> None:
    """Run it to its first step that changes something."""

    def stop(_run: ActiveRun, name: str) -> None:
        if name not in ("find", "choose", "preflight", "live_preflight"):
            raise OpsError(f"stopped at {name}")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ActiveRun, "make_sure_of", stop)
        with pytest.raises(OpsError, match=r"stopped at|cannot wait for an approval"):
            runbook(**parameters)


def plan(runbook: Flow[..., Any], parameters: dict[str, Any]) -> None:
    assert dry_run(runbook, parameters, settings=load_settings()).error is None


@pytest.mark.parametrize("started", [begin, plan])
def test_first_event_says_which_of_the_two_it_will_be(copied: Copied, told: list[str], started: Begin) -> None:
    restored = {"odoo_db": f"{copied.production}_new", "backup": copied.production}
    for runbook, parameters, how in (
        (odoo_db_restore, restored, "neutralised: without jobs"),
        (odoo_db_restore, {**restored, "as_production": True}, "as production, not neutralised"),
        (odoo_staging_copy, {**restored, "odoo_db": copied.staging}, "neutralised: without jobs"),
        (odoo_staging_copy, {**restored, "odoo_db": copied.staging, "live": True}, "neutralised: without jobs"),
    ):
        told.clear()
        started(runbook, parameters)
        assert told[0].startswith(f"{parameters['odoo_db']} will be published {how}"), told
        assert any("not restored: the filestore" in one for one in told[1:]) or "live" in parameters


@pytest.mark.parametrize("started", [begin, plan])
def test_so_it_does_of_what_is_not_an_odoos(folder: object, database: str, told: list[str], started: Begin) -> None:
    assert folder
    odoo_db_backup(database)
    told.clear()
    started(odoo_db_restore, {"odoo_db": f"{database}_new", "backup": database})
    assert told[0] == f"{database}_new will be published as it is: the backup is not an Odoo's"
    assert told[1].startswith("restores ")
