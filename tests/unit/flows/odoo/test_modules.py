"""Which modules may be upgraded, what counts as upgraded, and that nothing of it outlives who asked for it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from flows.odoo.modules import Module, check_same, check_upgradable, check_upgraded
from flows.odoo_module_upgrade import IN_CONTAINER
from opsdb.errors import PreflightError, StepFailedError

KNOWN = {"sale": Module("installed", "1"), "stock": Module("to upgrade", "1"), "hr": Module("uninstalled", None)}


def test_upgrade_goes_on_where_odoo_was_killed_and_is_not_done_before() -> None:
    check_upgradable(["sale", "stock"], KNOWN, database="odoo")
    with pytest.raises(PreflightError, match="hr is uninstalled"):
        check_upgradable(["sale", "hr"], KNOWN, database="odoo")
    with pytest.raises(StepFailedError, match="stock is to upgrade"):
        check_upgraded(["sale", "stock"], KNOWN, database="odoo")


def test_odoo_is_killed_when_nobody_reads_what_is_said(tmp_path: Path) -> None:
    client, asked = tmp_path / "docker", tmp_path / "asked"
    client.write_text(f'#!/bin/bash\necho "${{@: -1}}" >> {asked}\ncase "$*" in *TERM) echo 42;; esac\n')
    client.chmod(0o755)
    reading, writing = os.pipe()
    os.close(reading)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "REPO": str(tmp_path), "COMPOSE_FILE": "c.yml"}
    try:
        subprocess.run(
            ["bash", "-c", f"set -euo pipefail\n{IN_CONTAINER}\nexit 3"],
            env={**environment, "ODOO_SERVICE": "odoo", "ODOO_DB": "odoo", "LIMIT": "9"},
            stderr=writing,
            timeout=20,
            check=False,
        )
    finally:
        os.close(writing)
    assert asked.read_text().split() == ["look", "TERM", "KILL"]


def test_database_of_odoo_must_be_the_one_that_was_looked_at() -> None:
    check_same("odoo", "a-b", "noise\ndatabase: a-b\nassets: dropped\n")
    check_same("odoo", None, "assets: dropped\n")
    for said in ("database: c-d\n", "assets: dropped\n"):
        with pytest.raises(StepFailedError, match="Odoo upgraded another database odoo"):
            check_same("odoo", "a-b", said)
