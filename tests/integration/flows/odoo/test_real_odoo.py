"""What no stand-in can know: the room's runbooks with a real Odoo, where OPS_TEST_ODOO says where one is."""

from __future__ import annotations

import shutil
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from flows import odoo_module_upgrade as module
from flows.odoo_db_backup import odoo_db_backup
from flows.odoo_db_restore import odoo_db_restore
from opsdb.errors import OpsError, StepFailedError
from tests.integration.flows.odoo.real_sites import NEW_COLUMN, RealSite
from tests.integration.flows.odoo_sites import git
from tests.support.waiting import wait_for

pytestmark = pytest.mark.gate


@contextmanager
def orders_being_written(site: RealSite) -> Iterator[list[int]]:
    """Somebody writes orders, each with an attachment, for the length of the block: their numbers."""
    written: list[int] = []
    over = threading.Event()
    partner = site.odoo.call("res.partner", "create", {"name": "Customer"})

    def write() -> None:
        while not over.is_set():
            order = site.odoo.call("sale.order", "create", {"partner_id": partner})
            content = b64encode(f"of order {order}".encode()).decode()
            facts = {"name": f"order {order}", "datas": content, "res_model": "sale.order", "res_id": order}
            site.odoo.call("ir.attachment", "create", facts)
            written.append(order)

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        try:
            yield written
        finally:
            over.set()
        writing.result(60)


def rows(postgres: str, database: str, query: str) -> list[Any]:
    with psycopg.connect(postgres.format(database=database)) as db:
        return db.execute(query.encode()).fetchall()


def unsettled(postgres: str, database: str) -> list[Any]:
    """The modules that something is still to be done with."""
    left = "SELECT name, state FROM ir_module_module WHERE state NOT IN ('installed', 'uninstalled', 'uninstallable')"
    return rows(postgres, database, left)


def test_backup_while_orders_are_written_has_the_file_of_each_attachment(
    real: RealSite, postgres: str, tmp_path: Path
) -> None:
    real.odoo.start()
    with orders_being_written(real) as written:
        wait_for(lambda: written, what="the first order is there, with its attachment")
        made = odoo_db_backup(real.database)
    restored = f"{real.database}_restored"
    files = tmp_path / "restored"
    odoo_db_restore(restored, Path(made["file"]).name, filestore_dir=str(files))
    orders = {number for (number,) in rows(postgres, restored, "SELECT id FROM sale_order")}
    assert 0 < len(orders) < len(written)
    attachments = "SELECT store_fname, res_model FROM ir_attachment WHERE store_fname IS NOT NULL"
    named = rows(postgres, restored, attachments)
    assert len(orders) - 1 <= len([name for name, model in named if model == "sale.order"]) <= len(orders)
    assert [name for name, _ in named if not (files / name).is_file()] == []


def test_upgrade_of_modules_and_then_of_base_leaves_a_healthy_odoo(real: RealSite, postgres: str) -> None:
    real.odoo.start()
    real.install("18.0.1.0.0")
    commit = real.team.publish("18.0.2.0.0", models=NEW_COLUMN)
    result = real.upgrade("shop_extras", "sale")
    assert (result["commit"], git(real.checkout, "rev-parse", "HEAD")) == (commit, commit)
    assert result["modules"]["shop_extras"] == {"before": "18.0.1.0.0", "after": "18.0.2.0.0"}
    real.upgrade("base")
    assert unsettled(postgres, real.database) == []
    assert real.odoo.call("sale.order", "search_count", []) == 0


def test_cancelled_upgrade_is_over_and_nobody_goes_on_with_it(
    real: RealSite, postgres: str, start_flow: Callable[..., psutil.Popen]
) -> None:
    real.odoo.start()
    run = start_flow(real.database, "odoo_module_upgrade", modules=["base"], **real.place)
    [(installed,)] = rows(postgres, real.database, "SELECT count(*) FROM ir_module_module WHERE state = 'installed'")
    half_done = range(1, installed - 5)
    wait_for(lambda: len(unsettled(postgres, real.database)) in half_done, what="Odoo has upgraded some of its modules")
    run.terminate()
    assert run.wait(60) != 0
    assert unsettled(postgres, real.database) == []
    assert (real.container.containers, real.container.stopped) == ({}, False)
    versions = "SELECT name, state, latest_version, write_date FROM ir_module_module ORDER BY 1"
    left = rows(postgres, real.database, versions)
    assert real.odoo.call("sale.order", "search_count", []) == 0
    assert rows(postgres, real.database, versions) == left
    assert real.upgrade("sale")["modules"]["sale"]["after"]


def test_module_whose_folder_is_gone_fails_the_upgrade_by_name_and_is_not_left_behind(
    real: RealSite, postgres: str
) -> None:
    real.install("18.0.1.0.0")
    real.odoo.start()
    shutil.rmtree(real.team.work / "addons" / "shop_extras")
    real.team.push("without it")
    with pytest.raises(OpsError, match="shop_extras"):
        real.upgrade("sale")
    assert unsettled(postgres, real.database) == []
    assert real.odoo.call("sale.order", "search_count", []) == 0


def test_view_that_fits_nothing_is_the_reason_that_is_shown(real: RealSite, postgres: str) -> None:
    real.install("18.0.1.0.0")
    real.odoo.start()
    real.team.publish("18.0.2.0.0", beside="no_such_field_x")
    with pytest.raises(StepFailedError, match=r"Element .*no_such_field_x.* cannot be located in parent view"):
        real.upgrade("shop_extras")
    assert unsettled(postgres, real.database) == []
    assert real.odoo.call("sale.order", "search_count", []) == 0


def test_odoo_without_its_postgres_is_not_healthy(real: RealSite, monkeypatch: pytest.MonkeyPatch) -> None:
    real.odoo.start()
    monkeypatch.setattr(module, "HEALTH_SECONDS", 20)
    real.container.once_started = real.odoo.lose_postgres
    with pytest.raises(StepFailedError, match="did not answer well"):
        real.upgrade("sale")


def test_mark_that_a_person_made_is_left_alone_by_a_running_odoo_and_carried_out_by_one_that_is_started(
    real: RealSite, postgres: str
) -> None:
    """So an upgrade that stops a service for one database carries out what is marked in others that it serves."""
    real.odoo.start()
    with psycopg.connect(postgres.format(database=real.database)) as db:
        db.execute("UPDATE ir_module_module SET state = 'to upgrade' WHERE name = 'sale'")
    assert real.odoo.call("sale.order", "search_count", []) == 0
    assert unsettled(postgres, real.database) == [("sale", "to upgrade")]
    real.odoo.stop()
    real.odoo.start()
    assert real.odoo.call("sale.order", "search_count", []) == 0
    assert unsettled(postgres, real.database) == []
