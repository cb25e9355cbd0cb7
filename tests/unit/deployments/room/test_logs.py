"""The logs of parts: put aside when they are too large, at a start and while their programs write."""

from __future__ import annotations

from pathlib import Path

import pytest

from deployments.room import child


def test_log_that_has_grown_too_large_is_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "LOG_BYTES", 10)
    log = tmp_path / "log" / "one.log"
    for text in (b"first, long enough\n", b"second\n"):
        with child.open_log(log) as file:
            file.write(text)
    assert log.read_bytes() == b"second\n"
    assert log.with_name("one.log.1").read_bytes() == b"first, long enough\n"
    assert log.stat().st_mode & 0o077 == 0


def test_log_that_grows_while_its_program_writes_is_put_aside_without_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "LOG_BYTES", 1000)
    log = tmp_path / "one.log"
    kept = b""
    with child.open_log(log) as file:
        for number in range(1000):
            file.write(f"line {number}\n".encode())
            file.flush()
            if child.shorten_log(log):
                kept += log.with_name("one.log.1").read_bytes()
            assert log.stat().st_size <= 1000
    assert (kept + log.read_bytes()).decode().splitlines() == [f"line {number}" for number in range(1000)]
    assert sorted(one.name for one in tmp_path.iterdir()) == ["one.log", "one.log.1"]
    assert all(one.stat().st_mode & 0o077 == 0 for one in tmp_path.iterdir())


def test_line_that_is_not_finished_is_waited_for_unless_it_never_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "LOG_BYTES", 1000)
    log = tmp_path / "one.log"
    log.write_bytes(b"a line\n" * 200 + b"half of a")
    assert not child.shorten_log(log)
    log.write_bytes(b"x" * 2001)
    assert child.shorten_log(log)
    assert log.stat().st_size == 0


def test_log_stays_whole_where_it_cannot_be_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "LOG_BYTES", 1000)
    log = tmp_path / "one.log"
    assert not child.shorten_log(log)
    log.write_bytes(b"a line\n" * 200)
    (tmp_path / "one.log.new").symlink_to("/dev/full")
    assert not child.shorten_log(log)
    assert log.read_bytes() == b"a line\n" * 200
    assert [one.name for one in tmp_path.iterdir()] == ["one.log"]


def test_log_is_put_aside_before_it_is_emptied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is killed between the two has it twice, and not nowhere."""
    monkeypatch.setattr(child, "LOG_BYTES", 1000)
    log = tmp_path / "one.log"
    log.write_bytes(b"a line\n" * 200)

    def killed(*_arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.ftruncate", killed)
    with pytest.raises(KeyboardInterrupt):
        child.shorten_log(log)
    assert (tmp_path / "one.log.1").read_bytes() == log.read_bytes() == b"a line\n" * 200
