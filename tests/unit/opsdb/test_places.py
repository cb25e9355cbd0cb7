"""Where runs may work: what the settings allow, and never the room's own state."""

from __future__ import annotations

from pathlib import Path

import pytest

from opsdb.places import filestore_environment, refuse_backups, refuse_filestore, refuse_target
from opsdb.settings import Settings, load_settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """OPS_HOME stands within a folder that is allowed."""
    for name in ("room/backups", "room/logs", "other/backups", "filestore/odoo"):
        (tmp_path / name).mkdir(parents=True)
    return Settings(
        home=tmp_path / "room",
        backup_roots=(tmp_path / "room", tmp_path / "other"),
        filestore_dir=tmp_path / "filestore",
    )


@pytest.mark.parametrize("name", ["room/backups", "room/backups/below", "other", "other/backups/not/there/yet"])
def test_backups_go_where_the_settings_allow(settings: Settings, tmp_path: Path, name: str) -> None:
    assert refuse_backups(tmp_path / name, settings) is None


@pytest.mark.parametrize("path", ["/etc", "/root", "/", "/othe", "{here}/others", "{here}/other/../filestore"])
def test_backups_go_nowhere_else(settings: Settings, tmp_path: Path, path: str) -> None:
    refusal = refuse_backups(Path(path.format(here=tmp_path)), settings)
    assert refusal is not None
    assert "outside the folders in which runs may work" in refusal
    assert "OPS_BACKUP_ROOTS" in refusal


@pytest.mark.parametrize("name", ["room", "room/logs", "room/prefect/ui", "room/backups/../logs"])
def test_state_of_the_room_is_no_place_for_backups(settings: Settings, tmp_path: Path, name: str) -> None:
    refusal = refuse_backups(tmp_path / name, settings)
    assert refusal is not None
    assert "in OPS_HOME" in refusal


def test_link_is_judged_by_where_it_leads(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "other" / "away").symlink_to("/etc")
    (tmp_path / "here").symlink_to("other/backups")
    (tmp_path / "other" / "round").symlink_to("round")
    assert refuse_backups(tmp_path / "other" / "away", settings) is not None
    assert refuse_backups(tmp_path / "here", settings) is None
    assert refuse_backups(tmp_path / "other" / "round", settings) is None, "opening it is the error"


def test_filestores_are_below_their_own_folder(settings: Settings, tmp_path: Path) -> None:
    assert refuse_filestore(tmp_path / "filestore" / "odoo", settings) is None
    assert "OPS_FILESTORE_ROOTS" in (refuse_filestore(tmp_path / "other", settings) or "")
    nowhere = settings.model_copy(update={"filestore_dir": None})
    assert "none so far" in (refuse_filestore(tmp_path / "filestore" / "odoo", nowhere) or "")


def test_target_is_anywhere_but_in_the_rooms_own_state(settings: Settings, tmp_path: Path) -> None:
    assert refuse_target(Path("/mnt/offsite"), settings) is None
    assert "in OPS_HOME" in (refuse_target(tmp_path / "room" / "journal", settings) or "")
    (tmp_path / "link").symlink_to(tmp_path / "room")
    assert "in OPS_HOME" in (refuse_target(tmp_path / "link" / "logs", settings) or "")


def test_another_process_judges_filestores_by_the_same_folders(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for more in ((), (tmp_path / "one", tmp_path / "two")):
        ours = settings.model_copy(update={"filestore_roots": more})
        with monkeypatch.context() as patch:
            for name, value in filestore_environment(ours).items():
                patch.setenv(name, value)
            theirs = load_settings()
        assert (theirs.home, theirs.backups) == (ours.home, ours.backups)
        assert theirs.filestore_folders == ours.filestore_folders
        assert theirs.backup_folders == ours.backup_folders
