"""What two upgrades must not share."""

from __future__ import annotations

import socket

import pytest

from blocks.odoo_host import OdooHost
from flows.odoo.site import host_resource


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
