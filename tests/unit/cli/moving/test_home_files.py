from __future__ import annotations

import tarfile
from pathlib import Path

from cli.moving.home_files import (
    STAYS,
    entries,
    files_bytes,
    goes_along,
    in_the_way,
    left_out,
    stays_by_settings,
    unpack_files,
    write_files,
)
from opsdb.settings import Settings


def put(home: Path, *names: str) -> None:
    for name in names:
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(f"{name}\n")


def test_all_but_what_a_room_makes_again_goes_along_closed_to_others(tmp_path: Path) -> None:
    home, tar, there = tmp_path / "home", tmp_path / "home.tar", tmp_path / "there"
    put(
        home, "secrets.json", "backup-keys/own", "journal/refused/x.jsonl", "copies/neutralize.sql", "operators/own.txt"
    )
    put(
        home,
        *(f"{name}/x" for name in ("postgres", "logs", "backups", "running", "before-1", ".restoring")),
        "room.json",
    )
    (home / "operators" / "own.txt").chmod(0o666)
    (home / "operators" / "link").symlink_to("/nowhere")
    assert entries(home) == ["backup-keys", "copies", "journal", "operators", "secrets.json"]
    with tar.open("w+b") as file:
        write_files(home, file)
    there.mkdir()
    unpack_files(tar, there)
    assert {str(path.relative_to(there)) for path in there.rglob("*") if path.is_file()} == {
        "secrets.json",
        "backup-keys/own",
        "journal/refused/x.jsonl",
        "copies/neutralize.sql",
        "operators/own.txt",
    }
    modes = {path.stat().st_mode & 0o777 for path in there.rglob("*")}
    assert modes == {0o600, 0o700}
    assert (there / "backup-keys" / "own").read_text() == "backup-keys/own\n"


def test_room_is_in_the_way_and_what_any_host_has_is_not(tmp_path: Path) -> None:
    put(tmp_path, "ops.toml", "room.lock", "before-1/x", "restoring/x", "log/x", "postgres/x", "backups/x")
    assert in_the_way(tmp_path) == []
    put(tmp_path, "secrets.json", "running/1", "journal/1")
    assert in_the_way(tmp_path) == ["journal", "running", "secrets.json"]
    assert in_the_way(tmp_path / "none") == []


def test_second_names_of_files_and_empty_folders_go_along(tmp_path: Path) -> None:
    home, tar, there = tmp_path / "home", tmp_path / "home.tar", tmp_path / "there"
    put(home, "keys/one")
    (home / "keys" / "two").hardlink_to(home / "keys" / "one")
    (home / "journal" / "empty").mkdir(parents=True)
    with tar.open("w+b") as file:
        write_files(home, file)
    there.mkdir()
    unpack_files(tar, there)
    assert (there / "keys" / "two").read_text() == "keys/one\n"
    assert (there / "journal" / "empty").stat().st_mode & 0o777 == 0o700


def test_what_does_not_go_along_is_named(tmp_path: Path) -> None:
    home = tmp_path / "home"
    put(home, ".netrc", ".room.json.12", ".secrets.json.12.0123abcd", "own/x", "elsewhere/y")
    (home / "own" / "link").symlink_to(home / "elsewhere")
    (home / "own" / "file").symlink_to(home / "own" / "x")
    assert {name: why.split(":")[0] for name, why in left_out(home).items()} == {
        ".netrc": "hidden at the top of OPS_HOME",
        "own/link": "a link, which may lead elsewhere",
    }


def test_folders_of_backups_and_filestores_stay_and_take_no_space(tmp_path: Path) -> None:
    home, tar = tmp_path / "home", tmp_path / "home.tar"
    put(home, "dumps/x", "odoo/filestore/x", "own/x")
    settings = Settings(home=home, backup_dir=home / "dumps", filestore_roots=(home / "odoo" / "filestore", tmp_path))
    without = stays_by_settings(settings)
    assert entries(home, without) == ["odoo", "own"]
    assert files_bytes(home, without) == len("own/x\n")
    with tar.open("w+b") as file:
        write_files(home, file, without)
    with tarfile.open(tar) as held:
        assert [one.name for one in held] == ["odoo", "own", "own/x"]
    assert {"dumps", "odoo/filestore"} <= left_out(home, without).keys()
    goes = {name: goes_along(settings, home / name) for name in (".", "own", "dumps/a", "room-backups", "../else")}
    assert goes == {".": True, "own": True, "dumps/a": False, "room-backups": False, "../else": False}


def test_each_thing_that_stays_says_why() -> None:
    assert all(why for why in STAYS.values())
