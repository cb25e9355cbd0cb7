"""Copies of a room's backups: made by its runs, told by its commands, and restored when the folder is lost."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.acceptance.room.desk import Desk

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def target(desk: Desk, tmp_path: Path) -> str:
    """The name of a block that leads to a folder."""
    folder = tmp_path / "disk"
    folder.mkdir(mode=0o700)
    code = (
        "import sys\n"
        "from deployments import access\n"
        "from opsdb.settings import load_settings\n"
        "access.use(load_settings())\n"
        "from blocks.backup_target import BackupTarget\n"
        "BackupTarget.register_type_and_schema()\n"
        "BackupTarget(folder=sys.argv[2]).save(sys.argv[1], overwrite=True)\n"
    )
    argv = [desk.command()[0], "-c", code, "second-disk", str(folder)]
    subprocess.run(argv, env=desk.env, cwd=desk.home.parent, check=True, capture_output=True)
    return "second-disk"


def test_copy_is_made_told_and_restored(desk: Desk, database: str, target: str, tmp_path: Path) -> None:
    made = desk.run("odoo_db_backup", "-p", f"odoo_db={database}", "-p", f"target={target}")
    assert made["status"] == "succeeded", made
    url = made["result"]["target"]["url"]
    assert url == (tmp_path / "disk" / Path(made["result"]["file"]).name).as_uri()
    links = [one for one in desk.json("show", made["id"])["artifacts"] if one["kind"] == "link"]
    assert [(one["content_url"], one["sha256"]) for one in links] == [(url, made["result"]["sha256"])]

    (listed,) = (one for one in desk.json("backups", database) if one["made_by_run"] == made["id"])
    (copy,) = listed["copies"]
    assert (copy["target"], copy["url"], copy["verified_by_run"]) == (target, url, made["id"])
    (there,) = desk.json("backups", database, "--target", target, "--check")
    assert (there["path"], there["good"], there["bytes_checked"]) == (url, True, True)
    assert "no Backup Target block" in desk.ops("backups", "--target", "not-there").refused(2)

    empty = tmp_path / "empty"
    drill = desk.run(
        "odoo_restore_drill", "-p", f"odoo_db={database}", "-p", f"target={target}", "-p", f"backup_dir={empty}"
    )
    assert drill["status"] == "succeeded", drill
    assert drill["result"]["backup"] == there["file"]
    assert list(empty.iterdir()) == []


def test_run_whose_copy_fails_is_no_success(desk: Desk, database: str, target: str, tmp_path: Path) -> None:
    (tmp_path / "disk").rename(tmp_path / "elsewhere")
    run = desk.run("odoo_db_backup", "-p", f"odoo_db={database}", "-p", f"target={target}")
    assert run["status"] == "failed"
    assert "is the disk mounted" in run["error"]["message"]
