from __future__ import annotations

import io
from pathlib import Path

import pytest

from cli.moving.passphrase import read_passphrase
from opsdb.errors import UsageError

GOOD = "correct horse battery staple"


@pytest.mark.parametrize("text", [GOOD, f"{GOOD}\n", f"{GOOD}\r\nsecond line\n"])
def test_first_line_of_a_file_or_of_stdin_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    file = tmp_path / "passphrase"
    file.write_text(text, newline="")
    file.chmod(0o600)
    assert read_passphrase(file, new=True) == GOOD
    monkeypatch.setattr("sys.stdin", io.StringIO(text, newline=""))
    assert read_passphrase(None, new=True) == GOOD


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the passphrase is missing"),
        ("\n", "the passphrase is missing"),
        ("fifteen letters", "has 15 characters, and needs 16"),
        ("x" * 2000, "at most 1024 printable characters"),
        ("a\x07 bell in the passphrase", "at most 1024 printable characters"),
    ],
)
def test_passphrase_that_would_not_do_is_refused_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, text: str, words: str
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    with pytest.raises(UsageError, match=words) as refused:
        read_passphrase(None, new=True)
    assert not text.strip() or text.strip() not in str(refused.value)


def test_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "passphrase"
    file.write_text(GOOD)
    file.chmod(0o644)
    with pytest.raises(UsageError, match="must be readable by its owner alone"):
        read_passphrase(file)
    with pytest.raises(UsageError, match="there is no file"):
        read_passphrase(tmp_path / "none")
