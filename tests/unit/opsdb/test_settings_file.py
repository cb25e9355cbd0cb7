"""Which settings files count for a room, whom they may come from, and what the room writes there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from opsdb import settings_file
from opsdb.errors import UsageError
from opsdb.settings_file import find_files, read_file, write_own
from tests.support.programs import needs_root

NOBODY = 65534
PORTS = {"prefect_port": 4300, "health_port": 3100}

DEFAULTS = {"prefect_port": 4200, "health_port": 3000}


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of the host, which is not there yet."""
    path = tmp_path / "etc" / "ops.toml"
    path.parent.mkdir()
    monkeypatch.setattr(settings_file, "OF_THE_HOST", path)
    return path


@pytest.fixture
def work(host: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a `.ops` beside it in the folder above."""
    folder = tmp_path / "opt" / "below" / "deep"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    return folder


def room(folder: Path, text: str = "") -> Path:
    """A room's home with a settings file in it."""
    home = folder / ".ops"
    home.mkdir(mode=0o700)
    (home / "ops.toml").write_text(text)
    return home


def test_nearest_file_above_names_the_room(work: Path) -> None:
    room(work.parents[1])
    near = room(work.parent, "lane_limit = 4")
    found = find_files(None)
    assert (found.home, [one.path for one in found.files]) == (near, [near / "ops.toml"])


@pytest.mark.parametrize("sign", ["secrets.json", "room.json"])
def test_room_without_a_file_is_not_passed_over(work: Path, host: Path, sign: str) -> None:
    room(work.parents[1], "lane_limit = 4")
    host.write_text(f'home = "{work.parents[1]}/.ops"')
    near = room(work.parent)
    (near / "ops.toml").rename(near / sign)
    assert find_files(None) == settings_file.Found(home=near)


def test_empty_folder_is_no_room(work: Path) -> None:
    above = room(work.parents[1])
    (work.parent / ".ops").mkdir()
    assert find_files(None).home == above


def test_home_of_the_environment_leaves_the_working_folder_aside(work: Path, tmp_path: Path) -> None:
    room(work, "prefect_port = 1")
    other = room(tmp_path, "prefect_port = 2")
    assert [one.values for one in find_files(other).files] == [{"prefect_port": 2}]


def test_no_file_is_no_room(work: Path) -> None:
    assert find_files(None) == settings_file.Found()


def test_file_of_the_host_leads_to_its_room_from_anywhere(work: Path, host: Path, tmp_path: Path) -> None:
    home = tmp_path / "srv"
    home.mkdir()
    (home / "ops.toml").write_text("prefect_port = 4300")
    host.write_text(f'home = "{home}"\nlane_limit = 4')
    found = find_files(None)
    assert found.home == home
    assert [one.path for one in found.files] == [home / "ops.toml", host]


def test_file_of_the_host_means_nothing_to_another_room(work: Path, host: Path) -> None:
    host.write_text('home = "/srv/room"\nbackup_dir = "/srv/backups"')
    own = room(work)
    assert [one.path for one in find_files(None).files] == [own / "ops.toml"]
    assert [one.path for one in find_files(own).files] == [own / "ops.toml"]


def test_file_of_the_host_without_a_home_is_for_every_room(work: Path, host: Path) -> None:
    host.write_text("lane_limit = 4")
    own = room(work)
    assert [one.path for one in find_files(None).files] == [own / "ops.toml", host]


def test_file_may_lead_to_a_room_elsewhere(work: Path, tmp_path: Path) -> None:
    (tmp_path / "srv").mkdir()
    pointer = room(work, 'home = "../../../../srv"\nlane_limit = 4')
    found = find_files(None)
    assert (found.home, [one.path for one in found.files]) == (tmp_path / "srv", [pointer / "ops.toml"])


def test_file_of_a_room_that_leads_elsewhere_is_refused(work: Path) -> None:
    home = room(work, 'home = "/srv/room"')
    with pytest.raises(UsageError, match=r"line 1: it leads to /srv/room, but this is the file of the room in"):
        find_files(home)


@pytest.mark.parametrize("open_", [".", ".ops", ".ops/ops.toml"])
@pytest.mark.parametrize("mode", [0o777, 0o666])
def test_file_that_others_may_have_written_is_refused_and_named(work: Path, open_: str, mode: int) -> None:
    home = room(work)
    (work / open_).chmod(mode | (0o111 if open_ != ".ops/ops.toml" else 0))
    with pytest.raises(UsageError, match=f"{home}/ops.toml is not read: everybody may write to {work / open_}"):
        find_files(None)


@needs_root
@pytest.mark.parametrize("planted", [".", ".ops", ".ops/ops.toml"])
def test_file_that_another_user_planted_is_refused(work: Path, planted: str) -> None:
    room(work)
    os.chown(work / planted, NOBODY, NOBODY)
    with pytest.raises(UsageError, match=f"{work / planted} belongs to nobody"):
        find_files(None)


def test_link_is_judged_by_where_it_leads(work: Path, tmp_path: Path) -> None:
    home = room(work)
    open_ = tmp_path / "open"
    open_.mkdir()
    open_.chmod(0o777)
    (open_ / "evil.toml").write_text("")
    (home / "ops.toml").unlink()
    (home / "ops.toml").symlink_to(open_ / "evil.toml")
    with pytest.raises(UsageError, match=f"everybody may write to {open_}"):
        find_files(None)


def test_what_is_no_file_is_refused_at_once(work: Path) -> None:
    home = room(work)
    (home / "ops.toml").unlink()
    os.mkfifo(home / "ops.toml", 0o600)
    with pytest.raises(UsageError, match="is not a regular file"):
        find_files(None)


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"a = \nb = 1", "is not valid TOML: .*line 1"), (b"\xff", "is not UTF-8"), (b"#" * 1_000_001, "larger than")],
    ids=["broken", "binary", "huge"],
)
def test_content_that_cannot_be_read_is_refused(work: Path, content: bytes, said: str) -> None:
    (room(work) / "ops.toml").write_bytes(content)
    with pytest.raises(UsageError, match=said):
        find_files(None)


def test_room_notes_where_it_is_once(work: Path, tmp_path: Path) -> None:
    home = tmp_path / ".ops"
    home.mkdir()
    assert write_own(home, PORTS, defaults=DEFAULTS)
    path = home / "ops.toml"
    assert path.stat().st_mode & 0o777 == 0o600
    found = read_file(path)
    assert found is not None
    assert found.values == {"home": ".", **PORTS}
    before = path.stat().st_ino
    assert not write_own(home, PORTS, defaults=DEFAULTS)
    assert path.stat().st_ino == before


def test_room_keeps_what_an_operator_wrote(work: Path) -> None:
    home = room(work, "# ours\nprefect_port = 4200  # as the proxy has it\n\nlane_limit = 4\n")
    (home / "ops.toml").chmod(0o640)
    write_own(home, PORTS, defaults=DEFAULTS)
    text = (home / "ops.toml").read_text()
    assert text.startswith("# ours\nprefect_port = 4300  # as the proxy has it\n\nlane_limit = 4\n")
    assert (home / "ops.toml").stat().st_mode & 0o777 == 0o640


def test_room_does_not_repeat_what_the_host_says(work: Path, host: Path, tmp_path: Path) -> None:
    home = tmp_path / "srv"
    home.mkdir()
    host.write_text(f'home = "{home}"\nprefect_port = 4300')
    write_own(home, PORTS, defaults=DEFAULTS)
    found = read_file(home / "ops.toml")
    assert found is not None
    assert found.values == {"health_port": 3100}


def test_room_on_its_usual_ports_leaves_them_to_the_host(work: Path, host: Path, tmp_path: Path) -> None:
    home = tmp_path / "srv"
    home.mkdir()
    write_own(home, DEFAULTS, defaults=DEFAULTS)
    assert [one.values for one in find_files(home).files] == [{"home": "."}]
    (home / "ops.toml").write_text("prefect_port = 4300")
    write_own(home, DEFAULTS, defaults=DEFAULTS)
    assert [one.values for one in find_files(home).files] == [{"home": ".", "prefect_port": 4200}]


def test_room_writes_through_a_link(work: Path, tmp_path: Path) -> None:
    home = room(work)
    kept = tmp_path / "kept.toml"
    kept.write_text("")
    (home / "ops.toml").unlink()
    (home / "ops.toml").symlink_to(kept)
    write_own(home, PORTS, defaults=DEFAULTS)
    assert (home / "ops.toml").is_symlink()
    assert "4300" in kept.read_text()
