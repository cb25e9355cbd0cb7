"""The runbook to begin with: its test passes at once, and nothing is overwritten."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from flows.own.catalogue import catalogue
from flows.own.draft import write_draft
from opsdb.errors import UsageError
from opsdb.settings import Settings


def test_draft_is_a_runbook_whose_test_passes_at_once(tmp_path: Path) -> None:
    settings = Settings(runbooks=tmp_path / "own")
    written = write_draft("disk_report", tmp_path / "own", settings)
    assert [path.name for path in written] == ["disk_report.py", "test_disk_report.py"]
    (one,) = catalogue(settings)
    assert (one.kind, one.error) == ("disk_report", None)
    assert one.flow is not None
    (field,) = one.flow.parameters.properties.values()
    assert field["errorMessage"] == "an absolute path: letters, digits, _ . / and -"
    assert "how full the disk of a folder is" in (one.flow.description or "")
    (tmp_path / "own" / "_shared.py").write_text("WORD = 1\n")
    written[0].write_text("from ._shared import WORD\n" + written[0].read_text())
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(words, cwd=tmp_path / "own", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "6 passed" in done.stdout


@pytest.mark.parametrize("name", ["Disk", "a-b", "class", "test_it", "conftest", "", "_x", "a/b", "../x"])
def test_name_that_cannot_be_one_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="cannot be the name of a runbook"):
        write_draft(name, tmp_path, Settings())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("odoo_db_backup", "prefect.yaml has a runbook of that name"),
        ("disk_space", "disk_space.yaml has that name"),
        ("step", "is a name that the draft itself uses"),
        ("runbook", "is a name that the draft itself uses"),
        ("str", "is a name that the draft itself uses"),
        ("dict", "is a name that the draft itself uses"),
        ("json", "is a module that is installed"),
        ("typer", "is a module that is installed"),
    ],
)
def test_name_that_is_taken_is_refused(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        write_draft(name, tmp_path, Settings())
    assert list(tmp_path.iterdir()) == []


def test_file_that_exists_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text("mine")
    with pytest.raises(UsageError, match=r"test_mine\.py exists already"):
        write_draft("mine", tmp_path, Settings())
    assert [path.name for path in tmp_path.iterdir()] == ["test_mine.py"]
    with pytest.raises(UsageError, match="cannot be written: No such file or directory"):
        write_draft("mine", tmp_path / "none" / "none", Settings())
