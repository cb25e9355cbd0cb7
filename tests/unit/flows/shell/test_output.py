"""The bounds of a step's output, and what is printable."""

from __future__ import annotations

import base64
import itertools
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.shell.masking import SecretPatterns
from flows.shell.output import LogFile, OutputLimits, StepStreams, Tail, printable


@given(st.binary(max_size=300))
def test_printable_is_safe_for_databases_and_terminals(data: bytes) -> None:
    text = printable(data)
    assert text.encode().decode() == text
    assert not any(ord(character) < 32 and character not in "\n\t" for character in text)
    assert not any(0x7F <= ord(character) <= 0x9F or 0xD800 <= ord(character) <= 0xDFFF for character in text)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"a\0b", "ab"),
        (b"\xff\xfe ok", "\ufffd\ufffd ok"),
        (b"\xed\xa0\x80 ok", "\ufffd\ufffd\ufffd ok"),  # a lone surrogate
        (b"\x1b[1;31mred\x1b[0m \x1b]0;title\x07plain", "red plain"),
        (b"10%\r50%\r100%\r\nnext\r\n", "100%\nnext\n"),
        ("safe\u202e gpj.exe\u2028forged".encode(), "safe gpj.exe forged"),
        (b"tab\tstays", "tab\tstays"),
        (b"x" * 5000, "x" * 4096 + " [line cut, 5,000 bytes]"),
        ("ü".encode() * 3000, "ü" * 2048 + " [line cut, 6,000 bytes]"),
        (b"x" + "ü".encode() * 3000, "x" + "ü" * 2047 + " [line cut, 6,001 bytes]"),
    ],
)
def test_printable_of(data: bytes, text: str) -> None:
    assert printable(data) == text


def test_tail_keeps_the_last_bytes() -> None:
    tail = Tail(4)
    for piece in (b"abc", b"", b"defghijkl", b"m"):
        tail.add(piece)
    assert (tail.kept, tail.total) == (b"jklm", 13)


def test_log_keeps_head_and_tail_and_says_how_much_is_cut(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "new" / "run" / "1.log", head_bytes=10, tail_bytes=5)
    for _ in range(100):
        log.write(b"0123456")
    log.close()
    assert log.path.read_bytes() == b"0123456012\n[685 bytes cut here]\n23456"
    assert log.cut
    assert log.written == log.path.stat().st_size
    assert stat.S_IMODE(log.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(log.path.parent.stat().st_mode) == stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700


def test_log_that_fits_head_and_tail_has_no_marker(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "1.log", head_bytes=10, tail_bytes=5)
    log.write(b"0123456789abcde")
    log.close()
    assert log.path.read_bytes() == b"0123456789abcde"
    assert not log.cut


def test_log_closes_the_file_of_an_earlier_attempt_to_others(tmp_path: Path) -> None:
    path = tmp_path / "1.log"
    path.write_text("earlier")
    path.chmod(0o644)
    LogFile(path, head_bytes=10, tail_bytes=5).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_bytes() == b""


def test_log_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("precious")
    (tmp_path / "1.log").symlink_to(tmp_path / "target")
    log = LogFile(tmp_path / "1.log", head_bytes=10, tail_bytes=5)
    log.write(b"x")
    log.close()
    assert log.error
    assert (tmp_path / "target").read_text() == "precious"


def collected(
    chunks: list[bytes], tmp_path: Path, *, secrets: dict[str, str] | None = None, **limits: int
) -> list[str]:
    lines: list[str] = []
    output = StepStreams(
        secrets=SecretPatterns(secrets or {}),
        log_path=tmp_path / "1.log",
        on_line=lines.append,
        limits=OutputLimits(**limits),
    )
    for chunk in chunks:
        output.feed("stdout", chunk)
    output.close()
    return lines


@given(cuts=st.lists(st.integers(0, 80), max_size=8))
def test_lines_do_not_depend_on_how_they_were_read(tmp_path_factory: pytest.TempPathFactory, cuts: list[int]) -> None:
    data = b"one\r\n\n\r10%\r20%\r\r\nthree \xc3\xbc\nlooooooooooooooooong\rlaaaaaaaaaaaaaaaaaast\nend"
    places = [0, *sorted(cuts), len(data)]
    chunks = [data[a:b] for a, b in itertools.pairwise(places)]
    lines = collected(chunks, tmp_path_factory.getbasetemp(), line_bytes=10)
    assert lines == ["one", "", "20%", "three ü", "laaaaaaaaa [line cut, 21 bytes]", "end"]


@pytest.mark.parametrize("size", [1, 7, 1000, 10**6])
def test_lines_are_cut_in_the_middle_and_the_last_ones_come_at_the_end(tmp_path: Path, size: int) -> None:
    data = b"".join(b"line %d\n" % number for number in range(10_000)) + b"no newline"
    chunks = [data[at : at + size] for at in range(0, len(data), size)]
    lines = collected(chunks, tmp_path, lines=20, last_lines=3)
    assert lines[:12] == [f"line {number}" for number in range(12)]
    assert lines[12] == f"[9,986 lines cut here; see {tmp_path / '1.log'}]"
    assert lines[13:] == ["line 9998", "line 9999", "no newline"]


def test_secret_in_base64_whose_line_breaks_between_two_reads_is_masked(tmp_path: Path) -> None:
    token = "dop_v1_" + "0123456789abcdef" * 4
    text = f"Authorization: Bearer {token}".encode()
    encoded = base64.encodebytes(text)
    at = encoded.index(b"\n")
    for place in (at - 1, at, at + 1, at + 2):
        lines = collected([encoded[:place], encoded[place:]], tmp_path, secrets={"TOKEN": token})
        assert lines == [base64.b64encode(text).decode()[:30] + "***"]  # the header's own digits


def test_lines_beyond_the_head_by_a_few_are_not_repeated(tmp_path: Path) -> None:
    assert collected([b"1\n2\n3\n4\n5\n6\n"], tmp_path, lines=12, last_lines=4) == ["1", "2", "3", "4", "5", "6"]


def test_lines_have_a_bound_in_bytes(tmp_path: Path) -> None:
    lines = collected([b"x" * 99 + b"\n"] * 1000, tmp_path, lines_bytes=1000, last_lines=2)
    assert len(lines) == 10 + 1 + 2


def test_lines_mask_a_secret_that_escapes_had_torn(tmp_path: Path) -> None:
    lines = collected([b"se\x1b[1mcr\0et-value\n"], tmp_path, secrets={"A": "secret-value"})
    assert lines == ["***"]


def test_log_survives_a_full_disk(tmp_path: Path) -> None:
    log = LogFile(Path("/dev/full"), head_bytes=100, tail_bytes=5)
    log.write(b"x")
    log.close()
    assert log.written == 0
    assert log.error == f"the log /dev/full is incomplete: {os.strerror(28)}"
