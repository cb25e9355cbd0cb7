from __future__ import annotations

import os
from pathlib import Path

import pytest

from deployments.server import code, unchanged
from opsdb.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "home").mkdir()
    (tmp_path / "prefect.yaml").write_text("deployments: []\n")
    return Settings(home=tmp_path / "home", prefect_yaml=tmp_path / "prefect.yaml")


def test_note_that_others_could_have_written_counts_for_nothing(settings: Settings) -> None:
    deployed = unchanged.Deployed("a", "b", ("said",), ("odoo_prod",))
    assert unchanged.last_deployed(settings) is None
    unchanged.note(settings, deployed)
    assert unchanged.last_deployed(settings) == deployed
    path = settings.home / "deployed.json"
    path.chmod(0o644)
    assert unchanged.last_deployed(settings) is None
    path.chmod(0o600)
    path.write_text("{")
    assert unchanged.last_deployed(settings) is None
    path.unlink()
    path.symlink_to(settings.home / "elsewhere.json")
    assert unchanged.last_deployed(settings) is None


def test_note_of_another_user_counts_for_nothing(settings: Settings) -> None:
    if os.geteuid():  # CI is root: there it is tested
        pytest.skip("only root can give files away")
    unchanged.note(settings, unchanged.Deployed("a", "b"))
    os.chown(settings.home / "deployed.json", 1, 1)
    assert unchanged.last_deployed(settings) is None


def test_note_that_the_disk_does_not_take_is_none(settings: Settings) -> None:
    unchanged.note(settings.model_copy(update={"home": settings.home / "gone"}), unchanged.Deployed("a", "b"))


def test_more_files_than_can_be_looked_at_are_always_compared(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert unchanged.digest_of_what_is_read(settings)
    monkeypatch.setattr(code, "MOST_FILES", 10)
    assert unchanged.digest_of_what_is_read(settings) is None
