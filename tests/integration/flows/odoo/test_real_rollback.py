"""Upgrades of a real Odoo, taken back: people find what they had, and go on working."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterator

import pytest

from flows.engine.active_run import ActiveRun
from flows.odoo_upgrade_rollback import odoo_upgrade_rollback
from opsdb.errors import OpsError
from opsdb.settings import Settings
from tests.integration.flows.odoo.real_sites import RealSite
from tests.integration.flows.odoo_sites import git
from tests.integration.flows.recorded import recorded

pytestmark = pytest.mark.gate


@pytest.fixture
def runs(real: RealSite, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[ActiveRun]]:
    """The runs of the test, recorded in an ops database; Odoo runs, with the team's module."""
    assert settings.database_url
    monkeypatch.setenv("OPS_DATABASE_URL", settings.database_url.get_secret_value())
    real.install("18.0.1.0.0")
    real.odoo.start()
    with recorded() as made:
        yield made


def order(real: RealSite, customer: str) -> int:
    """An order with an attachment."""
    partner = real.odoo.call("res.partner", "create", {"name": customer})
    made = int(real.odoo.call("sale.order", "create", {"partner_id": partner}))
    content = b64encode(customer.encode()).decode()
    facts = {"name": "letter", "datas": content, "res_model": "sale.order", "res_id": made}
    real.odoo.call("ir.attachment", "create", facts)
    return made


def letters(real: RealSite) -> list[str]:
    """What the attachments of all orders say, read by Odoo from its filestore."""
    found = real.odoo.call("ir.attachment", "search_read", [["res_model", "=", "sale.order"]], ["datas"])
    return sorted(b64decode(one["datas"]).decode() for one in found)


def version(real: RealSite) -> str:
    [module] = real.odoo.call("ir.module.module", "search_read", [["name", "=", "shop_extras"]], ["latest_version"])
    return str(module["latest_version"])


@pytest.mark.parametrize("protect", ["dump", "copy"])
def test_upgrade_is_taken_back_and_people_go_on_with_what_they_had(
    real: RealSite, runs: list[ActiveRun], protect: str
) -> None:
    order(real, "before")
    commit = git(real.checkout, "rev-parse", "HEAD")
    real.team.publish("18.0.2.0.0")
    real.upgrade("shop_extras", protect=protect)
    assert version(real) == "18.0.2.0.0"
    order(real, "after")
    result = odoo_upgrade_rollback(odoo_db=real.database, upgrade=str(runs[-1].id), ask=False)
    assert any(one.startswith("sale_order (+1 rows") for one in result["written_since"]), result
    assert (git(real.checkout, "rev-parse", "HEAD"), version(real)) == (commit, "18.0.1.0.0")
    assert letters(real) == ["before"]
    order(real, "later")
    assert letters(real) == ["before", "later"]


def test_upgrade_that_odoo_refused_is_taken_back(real: RealSite, runs: list[ActiveRun]) -> None:
    order(real, "before")
    commit = git(real.checkout, "rev-parse", "HEAD")
    real.team.publish("18.0.2.0.0", beside="no_such_field_x")
    with pytest.raises(OpsError, match="shop_extras"):
        real.upgrade("shop_extras", protect="dump")
    odoo_upgrade_rollback(odoo_db=real.database, upgrade=str(runs[-1].id), ask=False)
    assert (git(real.checkout, "rev-parse", "HEAD"), version(real)) == (commit, "18.0.1.0.0")
    assert letters(real) == ["before"]
