"""What two upgrades must not share."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from blocks import odoo_host
from blocks.odoo_host import OdooHost
from flows.odoo import site
from flows.odoo.site import check_checkout, host_resource
from opsdb.errors import PreflightError
from tests.integration.flows.odoo_sites import git


@pytest.mark.parametrize("spelling", ["shop.example", "root@shop.example", "odoo@Shop.EXAMPLE", "shop.example."])
def test_host_is_one_resource_however_it_is_spelled_and_whatever_runs_there(spelling: str) -> None:
    host = OdooHost(ssh_destination=spelling, ssh_port=2222, repo_dir="/srv/other", service="web")
    assert host_resource(host) == "odoo_host:shop.example"


def test_own_host_is_the_same_over_ssh_and_another_one_is_another() -> None:
    own = host_resource(OdooHost())
    assert own == f"odoo_host:{socket.gethostname().lower()}"
    for spelling in ("localhost", "odoo@127.0.0.1", socket.gethostname()):
        assert host_resource(OdooHost(ssh_destination=spelling)) == own
    assert host_resource(OdooHost(ssh_destination="shop.example")) != own


def test_upgrade_does_not_move_the_code_of_the_control_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("room", "odoo"):
        (tmp_path / name).mkdir()
        git(tmp_path / name, "init", "-q")
        git(tmp_path / name, "commit", "-q", "--allow-empty", "-m", "first")
    monkeypatch.setattr(odoo_host, "CODE", odoo_host.CODE.replace("bash git docker curl", "bash git"))
    monkeypatch.setattr(site, "_OWN_CODE", tmp_path / "room")
    (tmp_path / "link").symlink_to(tmp_path / "room")
    check_checkout(OdooHost(repo_dir=str(tmp_path / "odoo")))
    for name in ("room", "link"):
        with pytest.raises(PreflightError, match="control room's own code"):
            check_checkout(OdooHost(repo_dir=str(tmp_path / name)))
