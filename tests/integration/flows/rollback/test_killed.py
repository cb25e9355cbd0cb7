"""Upgrades and rollbacks that are killed after any of their steps. Docker and Odoo are stand-ins."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from flows.odoo.aside import name_before, name_broken
from opsdb.errors import PreflightError
from opsdb.runs.lookup import list_runs, reading
from opsdb.settings import load_settings
from tests.integration.flows.recorded import run_killed_after, told_by_next_attempt
from tests.integration.flows.rollback.shops import Shop, work
from tests.support.postgres import databases
from tests.support.tiers import in_soak


def killed_and_finished(
    shop: Shop, step: str, before: dict[str, Any], after: dict[str, Any], *, env: dict[str, str]
) -> None:
    """A rollback is killed after a step: one database is live, and whole. The next rollback ends as if it had not."""
    facts = {"odoo_db": shop.database, "upgrade": str(shop.upgrade), "ask": False}
    assert run_killed_after(step, "odoo_upgrade_rollback", facts, env=env), step
    there = databases(shop.postgres)
    assert shop.database in there, step
    live = (shop.versions(), len(shop.execute("SELECT 1 FROM sale_order")))
    swapped = name_broken(shop.upgrade) in there
    whole = before if swapped else after
    assert live == (whole["modules"], len(whole["orders"])), step
    assert not (swapped and name_before(shop.upgrade) in there), step
    if swapped and step in ("swap_databases", "swap_filestores", "all_in_place", "keep_code"):
        with pytest.raises(PreflightError, match=r"is being taken back, and that did not end: .* `ops rollback "):
            shop.site.upgrade()
    told = told_after_kill(shop)
    assert told.endswith("resumes from there" if "stop_odoo" in told else "begins again"), step
    if step in told:
        assert step in told[: told.index("; left: ")], step
    if "; left: " in told:
        kept = f"is the previous database, and that of the upgrade is kept as {name_broken(shop.upgrade)}"
        assert (kept if swapped else "is still the database of the upgrade") in told, step
    shop.roll_back()
    assert shop.seen() == before, step
    assert name_before(shop.upgrade) not in databases(shop.postgres), step
    left = sorted(one.name for one in shop.filestores.iterdir())
    assert left == sorted([shop.database, name_broken(shop.upgrade)]), step


def told_after_kill(shop: Shop) -> str:
    """What the attempt says that the room begins after a kill."""
    facts = {"odoo_db": shop.database, "upgrade": str(shop.upgrade)}
    told = told_by_next_attempt("odoo_upgrade_rollback", facts)
    assert "was killed, and a rollback is not repeated" in told
    return told


def test_rollback_killed_between_database_and_filestore_is_finished_by_the_next_one(
    shop: Shop, prefect_client: dict[str, str]
) -> None:
    before = shop.seen()
    shop.do_upgrade(protect="copy")
    work(shop)
    killed_and_finished(shop, "swap_databases", before, shop.seen(), env=prefect_client)


@pytest.mark.gate
def test_upgrade_killed_after_any_step_leaves_production_as_it_was_or_is_taken_back_by_one_command(
    shop: Shop, prefect_client: dict[str, str]
) -> None:
    before = shop.seen()
    shop.do_upgrade(protect="copy")
    steps = [one for one in shop.steps if one not in ("preflight", "note_versions", "protection_preflight")]
    assert (steps[0], steps[-1]) == ("ask_odoo", "wait_health")
    shop.roll_back()
    facts: dict[str, Any] = {"odoo_db": shop.database, "modules": ["sale"], "repo_dir": str(shop.site.checkout)}
    facts |= {"health_url": shop.site.health, "protect": "copy"}
    for step in steps:
        assert shop.seen() == before, step
        assert run_killed_after(step, "odoo_module_upgrade", facts, env=prefect_client), step
        shop.upgrade = newest_upgrade()
        told = told_by_next_attempt("odoo_module_upgrade", facts)
        if step not in OF_AN_UPGRADED_DATABASE:
            assert shop.seen() == before, step
            assert "was killed, and an upgrade is not repeated" in told
        if step in ("ask_odoo", "note_commit"):  # nothing was changed by then
            with pytest.raises(PreflightError, match="changed nothing: it ended before it looked at its checkout"):
                shop.roll_back()
            continue
        shop.roll_back()
        assert shop.seen() == before, step
    assert "upgrade_modules" in steps
    assert len(steps) > 10


OF_AN_UPGRADED_DATABASE = ("upgrade_modules", "check_modules", "rebuild_assets", "start_odoo", "wait_health")


def newest_upgrade() -> UUID:
    with reading(load_settings()) as db:
        [view] = list_runs(db, kind="odoo_module_upgrade", limit=1)
    return view.run.id


@pytest.mark.gate
@pytest.mark.parametrize("protect", ["copy", *in_soak(["dump"])])
def test_rollback_killed_after_any_step_is_finished_by_the_next_one(
    shop: Shop, protect: str, prefect_client: dict[str, str]
) -> None:
    """All steps are found by a whole rollback first, so a new one is among them by itself."""
    before = shop.seen()
    shop.do_upgrade(protect=protect)
    work(shop)
    after = shop.seen()
    shop.steps.clear()
    shop.roll_back()
    steps = [one for one in shop.steps if one not in ("preflight", "count_rows")]
    assert (steps[0], steps[-1]) == ("leftovers of filestore" if protect == "dump" else "stop_odoo", "wait_health")
    for step in steps:
        shop.put_upgrade_back(keep=protect == "copy")
        assert shop.seen() == after, step
        killed_and_finished(shop, step, before, after, env=prefect_client)
    assert len(steps) > (6 if protect == "copy" else 15)
