"""A secret that escapes, controls or hidden characters tear apart is masked where the bytes are kept."""

from __future__ import annotations

import itertools
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.text import safe_output, safe_text
from flows.shell.escapes import ANSI, visible
from flows.shell.masking import SecretMasker, SecretPatterns
from flows.shell.output import OutputLimits, StepStreams, printable

SECRET = "correct-hörse"
HIDDEN = [
    b"\x1b[01;31m\x1b[K",  # grep --color
    b"\x1b[m",
    b"\x1b[38;2;255;100;0m",
    b"\x1b]0;a title\x07",
    b"\x1b]8;;https://a.example/x\x1b\\",
    b"\x1bP1$r0m\x1b\\",
    b"\x1b_kitty\x1b\\",
    b"\x1b^private\x1b\\",
    b"\x1bXstring\x1b\\",
    b"\x1b(B",
    b"\x1b7",
    b"\x1b",
    b"\xc2\x9b31m",
    b"\xc2\x9d0;title\xc2\x9c",
    b"\r",
    b"\r\n",
    b"\n",
    b"\0",
    b"\x08",
    b"x\x08",
    b"_\x08",
    "é\b".encode(),
    b"\x7f",
    b"\x0e\x0f",
    *(
        character.encode()
        for character in "\u00ad\u034f\u061c\u180e\u200b\u200d\u200e\u2028\u202e\u2060\u2066\ufe0f\ufeff\U000e0041"
    ),
]


def masked(data: bytes, secret: str, cuts: list[int]) -> bytes:
    masker = SecretMasker(SecretPatterns({"A": secret}))
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return b"".join(masker.feed(data[a:b]) for a, b in itertools.pairwise(places)) + masker.close()


@pytest.mark.parametrize("hidden", HIDDEN)
@pytest.mark.promise(8)
def test_secret_is_masked_through_what_a_terminal_does_not_show(hidden: bytes) -> None:
    raw = SECRET.encode()
    for at in range(1, len(raw)):
        if raw[at] & 0xC0 == 0x80:
            continue
        data = b"before " + raw[:at] + hidden + raw[at:] + b" after\n"
        for cuts in ([], list(range(len(data))), [7 + at], [7 + at + len(hidden)]):
            output = masked(data, SECRET, cuts)
            assert re.fullmatch(rb"before \*\*\*(\x1b\[[0-9;]*m)* after\n", output), (at, cuts)


@given(
    pieces=st.lists(
        st.one_of(st.sampled_from(HIDDEN), st.sampled_from([b"a", b"b", b"aba", b"bab-ab", b"\xc3", b"\xe2\x80"])),
        max_size=12,
    ),
    cuts=st.lists(st.integers(0, 300), max_size=20),
)
def test_masking_depends_on_the_stream_alone_and_leaves_nothing_to_be_joined(
    pieces: list[bytes], cuts: list[int]
) -> None:
    secret = "bab-ab"
    data = b"".join(pieces)
    output = masked(data, secret, cuts)
    assert output == masked(data, secret, []) == masked(data, secret, list(range(len(data))))
    text = output.decode(errors="replace")
    ways = [text, printable(output), safe_output(text), safe_text(text), ANSI.sub("", text)]
    ways += [visible(output).decode(errors="replace"), re.sub("\x1b\\[[0-9;]*[mK]", "", text).replace("\0", "")]
    assert not any(secret in way for way in ways)


@pytest.mark.parametrize("hidden", [b"\x9b31m", b"\x1b]" + b"x" * 4000 + b"\x07"])
def test_secret_is_masked_through_controls_of_other_encodings_and_long_titles(hidden: bytes) -> None:
    data = b"correct" + hidden + b"-horse"
    for cuts in ([], [7], [8], [len(data) - 7]):
        assert masked(data, "correct-horse", cuts) == b"***"


def test_each_letter_may_have_its_colour() -> None:
    data = b"".join(
        b"\x1b[38;2;%d;100;100;48;2;0;0;0m%c\x1b[0m" % (at, letter) for at, letter in enumerate(b"rainbow-key")
    )
    output = masked(data + b"!", "rainbow-key", [])
    assert ANSI.sub("", output.decode()) == "***!"
    assert output.endswith(b"\x1b[0m!")  # what follows has the colour that it had


def test_secret_in_a_title_is_masked() -> None:
    assert masked(b"\x1b]0;the correct-horse\x07ok", "correct-horse", []) == b"\x1b]0;the ***\x07ok"


def test_colours_of_a_real_grep_tear_no_secret(tmp_path: Path) -> None:
    printed = subprocess.run(
        ["grep", "--color=always", "horse"], input=b"pw=correct-horse-battery\n", capture_output=True, check=True
    ).stdout
    assert b"correct-\x1b" in printed
    lines: list[str] = []
    streams = StepStreams(
        secrets=SecretPatterns({"A": "correct-horse-battery"}),
        log_path=tmp_path / "1.log",
        on_line=lines.append,
        limits=OutputLimits(),
    )
    for byte in printed:
        streams.feed("stdout", bytes([byte]))
    streams.close()
    assert lines == ["pw=***"]
    assert streams.tail("stdout") == "pw=***\n"
    assert ANSI.sub("", (tmp_path / "1.log").read_text()) == "pw=***\n"


def test_wrapped_secret_is_masked() -> None:
    text = b"The key is dop_v1_0123456789abcdef and no other\n"
    for width in range(5, 40):
        printed = subprocess.run(["fold", "-w", str(width)], input=text, capture_output=True, check=True).stdout
        output = masked(printed, "dop_v1_0123456789abcdef", []).replace(b"\n", b"")
        assert output == b"The key is *** and no other"


def test_memory_is_bounded_where_nothing_is_shown() -> None:
    masker = SecretMasker(SecretPatterns({"A": SECRET}))
    for piece in (b"c\0", b"\x1b]", b"\0" * 1000, b"x" * 1000, b"\x1b[" + b"1;" * 100):
        masker.feed(piece)
        for _ in range(40):
            masker.feed(piece * 20)
        assert len(masker._held) < 16_000
