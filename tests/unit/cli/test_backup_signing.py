"""`ops backups sign` and `ops backups key`: what is signed, what is left, and how keys travel."""

from __future__ import annotations

import hashlib
import io
import json
from datetime import timedelta
from pathlib import Path

import pytest
import typer

from cli import backup_keys, backup_signing
from cli.main import make_app
from flows.backup.folder import Folder
from flows.backup.keyring import Key, Keyring
from opsdb.errors import PreflightError, UsageError
from tests.support.backups import KEY, NOW, make_backup, manifest_at, unsigned_text, with_sum
from tests.support.folders import names


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of a room that does not run."""
    monkeypatch.setenv("OPS_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("OPS_BACKUP_DIR", raising=False)
    (tmp_path / "home" / "backups").mkdir(parents=True, mode=0o700)
    return tmp_path / "home"


def unsigned(home: Path, days: int, database: str = "odoo", number: int = 2) -> Path:
    """A backup as a room made it that did not sign."""
    dump = make_backup(home / "backups", database, NOW - timedelta(days=days))
    manifest = manifest_at(Path(f"{dump}.json"))
    assert manifest is not None
    text = unsigned_text(manifest)
    if number == 1:
        text = text.partition(',\n  "checksum"')[0].replace('"format": 2', '"format": 1') + "\n}\n"
    Path(f"{dump}.json").write_text(text)
    return dump


def signatures(home: Path) -> list[str | None]:
    """Oldest first."""
    return [one.signature for one in Folder(home / "backups", Keyring(home / "backup-keys")).backups()]


def sign(*names: str, unrecorded: bool = False) -> int:
    """Its exit code."""
    with pytest.raises(typer.Exit) as ended:
        backup_signing.sign(*names, unrecorded=unrecorded)
    return ended.value.exit_code


def test_backups_of_both_old_formats_are_signed_once(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for days, number in ((2, 1), (1, 2)):
        unsigned(home, days, number=number)
    assert signatures(home) == ["unsigned", "unsigned"]
    assert sign() == 0
    assert signatures(home) == ["ours", "ours"]
    written = {path.name: path.read_bytes() for path in (home / "backups").iterdir()}
    assert all((home / "backups" / one).stat().st_mode & 0o777 == 0o600 for one in written if one.endswith(".json"))
    assert "2 signed, 0 were signed before, 0 left" in capsys.readouterr().out
    assert sign() == 0
    assert {path.name: path.read_bytes() for path in (home / "backups").iterdir()} == written
    assert "0 signed, 2 were signed before, 0 left" in capsys.readouterr().out


def test_damaged_backup_is_named_and_left(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unsigned(home, 3)
    damaged, cut = unsigned(home, 2), unsigned(home, 1)
    damaged.write_bytes(b"dumq")
    cut.write_bytes(b"du")
    assert sign() == 1
    said = capsys.readouterr()
    assert f"{damaged.name} was left: {damaged.name} is damaged: its sha256 differs" in said.err
    assert f"{cut.name} was left: {cut.name} does not have its 4 bytes" in said.err
    assert f"{damaged.name}: reading 4 B" in said.err
    assert signatures(home) == ["ours", "unsigned", "unsigned"]
    assert sign() == 1


def test_backup_of_another_room_and_a_forged_one_are_left(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    theirs = make_backup(home / "backups", "odoo", NOW)
    Keyring(home / "backup-keys").accept(Key(b"o" * 32))
    forged = make_backup(home / "backups", "odoo", NOW - timedelta(days=1))
    path = Path(f"{forged}.json")
    path.write_text(with_sum(path.read_text().replace(KEY.id, Key(b"o" * 32).id)))
    assert sign() == 1
    said = capsys.readouterr().err
    assert f"{theirs.name} was left: another room signed it" in said
    assert f"{forged.name} was left: forged" in said
    assert signatures(home) == ["wrong", "unknown key"]


def test_backup_that_the_rooms_record_knows_otherwise_is_left(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    replaced, other = unsigned(home, 1), unsigned(home, 2)
    known = {replaced.name: {"0" * 64}, other.name: {hashlib.sha256(other.read_bytes()).hexdigest()}}
    monkeypatch.setattr(backup_signing, "_recorded", lambda _: known)
    assert sign() == 1
    assert f"{replaced.name} is not what the run wrote that made it" in capsys.readouterr().err
    assert signatures(home) == ["ours", "unsigned"]
    assert other.exists()


def test_backup_that_no_run_has_made_is_signed_on_request_only(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one = unsigned(home, 1)
    monkeypatch.setattr(backup_signing, "_recorded", lambda _: {})
    assert sign() == 1
    assert f"no run of this room has made {one.name}" in capsys.readouterr().err
    assert signatures(home) == ["unsigned"]
    assert (sign(unrecorded=True), signatures(home)) == (0, ["ours"])


def test_only_the_named_database_is_signed_and_what_a_killed_one_left_is_replaced(home: Path) -> None:
    shop, odoo = unsigned(home, 1, "shop"), unsigned(home, 1)
    (home / "backups" / f".{odoo.name}.json.partial").write_text("half")
    assert sign("odoo") == 0
    assert signatures(home) == ["ours", "unsigned"]
    assert names(home / "backups") == {one.name + end for one in (shop, odoo) for end in ("", ".json")}


def test_folder_where_others_may_write_and_one_that_is_not_there_are_refused(home: Path, tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(PreflightError, match="everybody may write"):
        backup_signing.sign(folder=tmp_path / "open")
    with pytest.raises(UsageError, match=r"--dir: there is no folder .*/away"):
        backup_signing.sign(folder=tmp_path / "away")
    assert not (home / "backup-keys").exists()


def test_exported_key_is_accepted_in_another_room(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    unsigned(home, 1)
    assert sign() == 0
    capsys.readouterr()
    backup_keys.export()
    line = capsys.readouterr().out
    other = tmp_path / "other"
    other.mkdir(mode=0o700)
    (home / "backups").rename(other / "backups")
    assert signatures(other) == ["unknown key"]
    monkeypatch.setenv("OPS_HOME", str(other))
    for answer in ("is accepted", "was accepted already"):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(line.replace("\n", "\r\n").encode())))
        backup_keys.import_()
        said = capsys.readouterr().out
        assert answer in said
        assert line.strip() not in said
    assert signatures(other) == ["known"]
    assert sign() == 0


@pytest.mark.parametrize("given", [b"", b"\xff\xfe", b"my key", b"ops-backup-key-12"])
def test_what_is_no_key_is_not_imported(home: Path, monkeypatch: pytest.MonkeyPatch, given: bytes) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(given)))
    with pytest.raises(UsageError, match=r"standard input holds no key\. .*export"):
        backup_keys.import_()
    assert not (home / "backup-keys").exists()


@pytest.mark.parametrize(
    "words", [["--json"], ["list", "--json"], ["odoo", "--json"], ["--json", "odoo"], ["--dir", "{}", "--json"]]
)
def test_list_is_the_default(home: Path, capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    unsigned(home, 1)
    arguments = ["backups", *(word.format(home / "backups") for word in words)]
    make_app()(arguments, prog_name="ops", standalone_mode=False)
    assert [one["signature"] for one in json.loads(capsys.readouterr().out)] == ["unsigned"]


def test_list_marks_what_is_unsigned(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unsigned(home, 2)
    make_backup(home / "backups", "odoo", NOW - timedelta(days=1))
    make_app()(["backups"], prog_name="ops", standalone_mode=False)
    newest, oldest = (line for line in capsys.readouterr().out.splitlines() if line.startswith("odoo_"))
    assert "signed with an unknown key" in newest
    assert "; unsigned" in oldest
