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


def test_own_runbook_that_changed_is_deployed_again(
    settings: Settings, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.syspath_prepend(tmp_path)
    for place, file in {
        tmp_path / "own": tmp_path / "own" / "_shared.py",
        "team_of_digests.runbooks": tmp_path / "team_of_digests" / "words.py",
        "single_of_digests": tmp_path / "single_of_digests.py",
    }.items():
        file.parent.mkdir(exist_ok=True)
        file.write_text("")
        (file.parent / "__init__.py").touch()
        with_own = settings.model_copy(update={"runbooks": place})
        before = unchanged.digest_of_what_is_read(with_own)
        assert before is not None
        assert unchanged.digest_of_what_is_read(with_own) == before
        file.write_text("changed = True\n")
        assert unchanged.digest_of_what_is_read(with_own) not in (before, None), place


def test_more_files_than_can_be_looked_at_are_always_compared(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert unchanged.digest_of_what_is_read(settings)
    monkeypatch.setattr(code, "MOST_FILES", 10)
    assert unchanged.digest_of_what_is_read(settings) is None
