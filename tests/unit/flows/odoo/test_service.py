"""That Odoo in its container does not outlive who asked for it, whoever reads what is said."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from flows.odoo.service import UPGRADE, odoo_shell

DOCKER = """#!/bin/bash
echo "$*" >> {asked}
case "$*" in
  *State.Status*) exit 1 ;;
  *Labels*) echo "{owner}" ;;
  *"container inspect"*) exit 1 ;;
  *" run "*) exit 3 ;;
esac
"""


@pytest.mark.parametrize(("owner", "ended"), [("mine", True), ("another", False)])
@pytest.mark.parametrize("script", [UPGRADE, odoo_shell("pass")])
def test_own_container_is_ended_though_nobody_reads_what_is_said(
    tmp_path: Path, owner: str, ended: bool, script: str
) -> None:
    client, asked = tmp_path / "docker", tmp_path / "asked"
    client.write_text(DOCKER.format(asked=asked, owner=owner))
    client.chmod(0o755)
    reading, writing = os.pipe()
    os.close(reading)
    facts = {"REPO": str(tmp_path), "COMPOSE_FILE": "c.yml", "ODOO_SERVICE": "odoo", "ODOO_DB": "shop", "MODULES": "a"}
    try:
        done = subprocess.run(
            ["bash", "-c", f"set -euo pipefail\n{script}"],
            env={"PATH": f"{tmp_path}:{os.environ['PATH']}", **facts, "RUN": "mine", "LIMIT": "9"},
            stderr=writing,
            timeout=20,
            check=False,
        )
    finally:
        os.close(writing)
    assert done.returncode != 0
    calls = asked.read_text()
    assert ("stop -t 2 ops-upgrade-shop" in calls, "rm --force ops-upgrade-shop" in calls) == (ended, ended)
