"""The keys of backups: made once, closed to others, and never replaced."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from flows.backup.keyring import Key, Keyring, parse_key
from opsdb.errors import UsageError
from tests.support.backups import KEY


def test_own_key_is_made_once_and_readable_by_the_owner_alone(tmp_path: Path) -> None:
    keyring = Keyring(tmp_path / "home" / "keys")
    assert keyring.own() is None
    assert not keyring.folder.exists()
    key = keyring.make_own()
    assert keyring.make_own() == key == keyring.own()
    assert [path.name for path in keyring.folder.iterdir()] == ["own"]
    assert stat.S_IMODE(keyring.own_path.stat().st_mode) == 0o600
    assert [stat.S_IMODE(one.stat().st_mode) for one in (keyring.folder, tmp_path / "home")] == [0o700, 0o700]
    assert key != Keyring(tmp_path / "others").make_own()


def test_of_two_first_backups_at_once_the_first_key_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keyring, first = Keyring(tmp_path / "keys"), list[Key]()

    def slow(size: int) -> bytes:
        monkeypatch.undo()
        first.append(keyring.make_own())
        return b"l" * size

    monkeypatch.setattr("flows.backup.keyring.secrets.token_bytes", slow)
    assert [keyring.make_own()] == first == [keyring.own()]
    assert [path.name for path in keyring.folder.iterdir()] == ["own"]


def test_key_is_in_no_repr_and_its_line_is_read_back() -> None:
    assert "6b6b" not in repr(KEY)
    assert "kkkk" not in repr(KEY)
    assert parse_key(KEY.text) == KEY
    assert KEY.id not in KEY.text


@pytest.mark.parametrize("text", ["", "\n", "ops-backup-key-", KEY.text[:-2], KEY.text.upper(), KEY.text * 2, "\udcff"])
def test_what_is_no_key_is_none(text: str) -> None:
    assert parse_key(text) is None


@pytest.mark.parametrize("content", [b"", b"ops-backup-key-12\n", b"\xff" * 80])
def test_broken_key_is_refused_and_kept(tmp_path: Path, content: bytes) -> None:
    keyring = Keyring(tmp_path)
    keyring.own_path.write_bytes(content)
    keyring.own_path.chmod(0o600)
    for call in (keyring.own, keyring.make_own, lambda: keyring.judge("", key_id=KEY.id, signature="")):
        with pytest.raises(UsageError, match=f"{keyring.own_path} is broken"):
            call()
    assert keyring.own_path.read_bytes() == content


@pytest.mark.parametrize("file", ["own", KEY.id])
def test_key_that_others_may_read_or_that_is_a_link_is_refused(tmp_path: Path, file: str) -> None:
    keyring = Keyring(tmp_path)
    path = tmp_path / file
    path.write_text(KEY.text)
    path.chmod(0o640)
    with pytest.raises(UsageError, match=f"chmod 600 {path}"):
        keyring.judge("", key_id=KEY.id, signature="")
    path.chmod(0o600)
    path.rename(tmp_path / "moved")
    path.symlink_to(tmp_path / "moved")
    with pytest.raises(UsageError, match=f"{path} cannot be read"):
        keyring.judge("", key_id=KEY.id, signature="")


def test_key_under_the_name_of_another_is_refused(tmp_path: Path) -> None:
    keyring, other = Keyring(tmp_path), Key(b"o" * 32)
    keyring.accept(other)
    (tmp_path / other.id).rename(tmp_path / KEY.id)
    with pytest.raises(UsageError, match=f"holds key {other.id}"):
        keyring.judge("", key_id=KEY.id, signature="")


def test_accepted_key_is_written_once_and_the_own_one_is_not_accepted_besides(tmp_path: Path) -> None:
    keyring = Keyring(tmp_path / "keys")
    assert keyring.accept(KEY)
    assert not keyring.accept(KEY)
    assert not keyring.accept(keyring.make_own())
    assert keyring.accepted() == [KEY.id]
