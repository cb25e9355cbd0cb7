from __future__ import annotations

from pathlib import Path

from cli.moving.home_files import STAYS, entries, in_the_way, unpack_files, write_files


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


def test_each_thing_that_stays_says_why() -> None:
    assert all(why for why in STAYS.values())
