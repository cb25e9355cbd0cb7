"""Secrets are found in every spelling, however the stream was cut."""

from __future__ import annotations

import base64
import html
import itertools
import json
import re
import subprocess
from collections.abc import Callable
from string import ascii_letters, digits
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.shell.masking import SecretMasker, SecretPatterns
from opsdb.errors import UsageError

TOKEN = "dop_v1_" + "0123456789abcdef" * 4  # as long as DigitalOcean's: its base64 takes more than a line
SECRET = "kW9+/l'd o\"x\\3ü"
KEY = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEF\nab\nq83vEjRWeJCrze8SNFZ4kKvN7xI0VniQ\n-----END KEY-----\n"


def masked(data: bytes, secrets: dict[str, str], *, cuts: list[int] | None = None) -> bytes:
    masker = SecretMasker(SecretPatterns(secrets))
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts or []), len(data)]
    return b"".join(masker.feed(data[a:b]) for a, b in itertools.pairwise(places)) + masker.close()


@pytest.mark.parametrize(
    "spelling",
    [
        SECRET.encode(),
        base64.b64encode(SECRET.encode()),
        base64.urlsafe_b64encode(SECRET.encode()),
        quote(SECRET).encode(),
        quote(SECRET, safe="").encode(),
        re.sub("%..", lambda escape: escape[0].lower(), quote_plus(SECRET)).encode(),
        json.dumps(SECRET)[1:-1].encode(),
        json.dumps(json.dumps(SECRET)[1:-1])[1:-1].encode(),
        json.dumps(SECRET)[1:-1].replace("/", "\\/").encode(),
        json.dumps(SECRET)[1:-1].replace("\\u00fc", "\\u00FC").encode(),
        json.dumps(SECRET)[1:-1].replace("'", "\\u0027").encode(),
        SECRET.encode().hex().encode(),
        SECRET.encode().hex().upper().encode(),
        SECRET.encode("utf-16-le").strip(b"\0"),
        SECRET.encode("utf-16-be").strip(b"\0"),
        ascii(SECRET)[1:-1].encode(),
        repr(SECRET.encode())[2:-1].encode(),
        html.escape(SECRET).encode(),
        SECRET.replace("'", "''").encode(),
        SECRET.replace('"', '""').encode(),
    ],
)
@pytest.mark.promise(8)
def test_masker_knows_the_spellings_of_a_secret(spelling: bytes) -> None:
    assert masked(b"before " + spelling + b" after", {"A": SECRET}) == b"before *** after"


@pytest.mark.parametrize("secret", [SECRET, "a$b`c & d;e", "two\nlines here", "it's=/~#1"])
@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
@pytest.mark.parametrize("program", ['printf %q "$A"', "declare -p A", 'set -x; : "$A"', 'echo "${A@Q}"'])
def test_masker_knows_how_bash_quotes(program: str, locale: str, secret: str) -> None:
    env = {"A": secret, "LC_ALL": locale, "PATH": "/usr/bin:/bin"}
    run = subprocess.run(["bash", "-c", program], env=env, capture_output=True, check=True)
    output = masked(run.stdout + run.stderr, {"A": secret})
    assert b"***" in output
    assert b"b" not in output.replace(b"declare -", b"").replace(b"***", b"")
    assert not re.search(rb"lines|it|kW9|x", output.replace(b"declare -x", b""))


@pytest.mark.parametrize(
    "encode",
    [
        lambda text: json.dumps(text, ensure_ascii=False)[1:-1].replace("&", "\\u0026").replace("<", "\\u003c"),
        lambda text: json.dumps(text)[1:-1].replace("&", "\\u0026").replace("<", "\\u003C"),
        lambda text: quote(text, safe="!*'()"),
        lambda text: html.escape(text, quote=False),
        lambda text: text.replace("'", "'\\''"),
    ],
)
def test_masker_knows_how_markup_and_addresses_are_escaped(encode: Callable[[str], str]) -> None:
    secret = "a&b<c'd/e!f(g)"
    assert masked(f"<{encode(secret)}>".encode(), {"A": secret}) == b"<***>"


@pytest.mark.parametrize("offset", range(6))
def test_masker_finds_a_secret_inside_longer_base64(offset: int) -> None:
    secret = "correct-horse-battery"
    encoded = base64.b64encode(b"u" * offset + secret.encode() + b":tail")
    output = masked(encoded, {"A": secret})
    assert b"***" in output
    for at in range(0, len(encoded), 4):  # no group of digits that depends on the secret alone is left
        inside = offset <= at // 4 * 3 and at // 4 * 3 + 3 <= offset + len(secret)
        assert not inside or encoded[at : at + 4] not in output


def test_masker_finds_what_the_base64_program_breaks_into_lines() -> None:
    output = subprocess.run(["base64"], input=KEY.encode(), capture_output=True, check=True).stdout
    assert masked(output, {"KEY": KEY}).replace(b"***", b"").strip() == b""


@pytest.mark.parametrize("options", [[], ["-w", "64"], ["-w", "0"]])
@pytest.mark.parametrize("before", ["", "u:", "user:", "Authorization: Bearer "])
def test_masker_finds_a_token_that_the_base64_program_breaks_behind_other_text(before: str, options: list[str]) -> None:
    printed = subprocess.run(["base64", *options], input=(before + TOKEN).encode(), capture_output=True, check=True)
    output = masked(printed.stdout, {"TOKEN": TOKEN})
    assert len(b"".join(output.replace(b"***", b"").split())) <= len(before) * 4 / 3 + 4


@given(
    secret=st.text(ascii_letters + digits, min_size=6, max_size=120),
    before=st.integers(0, 60),
    width=st.sampled_from([64, 76]),
    cuts=st.lists(st.integers(0, 1000), max_size=10),
)
def test_masker_finds_base64_in_lines_of_64_and_76(secret: str, before: int, width: int, cuts: list[int]) -> None:
    encoded = base64.b64encode(b":" * before + secret.encode() + b":tail")
    lines = [encoded[at : at + width] for at in range(0, len(encoded), width)]
    data = b"> " + b"\n".join(lines) + b" <"
    # the digits that hold bits of the secret alone
    first, last = -(-before * 8 // 6), (before + len(secret)) * 8 // 6 - 1
    begin, end = (2 + digit + digit // width for digit in (first, last))
    for output in (
        masked(data, {"A": secret}),
        masked(data, {"A": secret}, cuts=cuts),
        masked(data, {"A": secret}, cuts=list(range(len(data)))),
    ):
        left, mask, right = output.partition(b"***")
        assert mask
        assert data.startswith(left)
        assert data.endswith(right)
        assert len(left) <= begin
        assert len(right) <= len(data) - end - 1


@given(
    pieces=st.lists(
        st.one_of(
            st.tuples(st.integers(0, 2), st.integers(1, 9), st.sampled_from([b"\n", b"\n\n"])),
            st.sampled_from([b"\n", b"bm5u", b"nn"]),
        ),
        max_size=10,
    ),
    cuts=st.lists(st.integers(0, 500), max_size=30),
)
def test_masker_output_depends_on_the_stream_alone_where_lines_break(
    pieces: list[tuple[int, int, bytes] | bytes], cuts: list[int]
) -> None:
    secret = "nv\x9e\u07ff!nn"
    data = b""
    for piece in pieces:
        if isinstance(piece, bytes):
            data += piece
        else:
            offset, width, line_break = piece
            encoded = base64.b64encode(b":" * offset + secret.encode())
            data += line_break.join(encoded[at : at + width] for at in range(0, len(encoded), width))
    output = masked(data, {"A": secret})
    assert masked(data, {"A": secret}, cuts=cuts) == output
    assert masked(data, {"A": secret}, cuts=list(range(len(data)))) == output


def test_masker_leaves_lists_of_words_alone_with_short_secrets() -> None:
    words = sorted(
        {word for text in (base64.__doc__, json.__doc__, re.__doc__) for word in re.findall(r"\w+", text or "")}
    )
    text = "\n".join(words)
    assert SecretPatterns({"A": "abcdef", "B": "secret", "C": "123456"}).mask(text) == text


def test_masker_holds_no_more_than_a_secret_may_take() -> None:
    masker = SecretMasker(SecretPatterns({"A": "abcdef"}))
    for hidden in (b"\n", b"\0", b"\x1b[m"):
        assert masker.feed(b"YWJj" + hidden * 10_000) == b"YWJj" + hidden * 10_000


def test_masker_takes_each_line_of_a_secret_that_is_long_enough() -> None:
    for line in KEY.splitlines():
        assert masked(f"> {line}\n".encode(), {"KEY": KEY}) == (b"> ab\n" if line == "ab" else b"> ***\n")
    assert masked(KEY.encode(), {"KEY": KEY}) == b"***\n"
    assert masked(KEY.replace("\n", "\r\n").encode(), {"KEY": KEY}) == b"***\r\n"


def test_masker_makes_one_mask_of_secrets_that_overlap() -> None:
    assert masked(b"<abcdefghi>", {"A": "abcdefg", "B": "defghi"}) == b"<***>"


@pytest.mark.parametrize("value", ["", "12345", "  12345\n", "\n" * 20, "12\u200b\u00ad\x1b345"])
def test_masker_refuses_a_short_secret_without_telling_it(value: str) -> None:
    with pytest.raises(UsageError, match="secret TOKEN") as refused:
        SecretPatterns({"TOKEN": value})
    assert "12345" not in str(refused.value)


def test_masker_refuses_a_secret_that_is_not_text() -> None:
    with pytest.raises(UsageError, match="secret TOKEN cannot"):
        SecretPatterns({"TOKEN": "abcdef\ud800"})


def test_masker_passes_on_at_once_what_cannot_be_a_secret() -> None:
    masker = SecretMasker(SecretPatterns({"KEY": KEY * 100}))
    assert masker.feed(b"working: 25%") == b"working: 25%"


@given(
    secrets=st.lists(
        st.text("ab\n+é", min_size=6, max_size=12).filter(lambda text: len("".join(text.split())) > 5), max_size=3
    ),
    pieces=st.lists(st.one_of(st.integers(0, 2), st.text("ab\n+éc", max_size=8)), max_size=12),
    cuts=st.lists(st.integers(0, 500), max_size=30),
)
def test_masker_output_depends_on_the_stream_alone(
    secrets: list[str], pieces: list[int | str], cuts: list[int]
) -> None:
    """An alphabet of few letters makes secrets overlap each other, themselves, and the text around."""
    named = {f"S{number}": secret for number, secret in enumerate(secrets)}
    chosen = [secrets[piece % len(secrets)] if isinstance(piece, int) and secrets else str(piece) for piece in pieces]
    data = "".join(chosen).encode()
    output = masked(data, named)
    assert masked(data, named, cuts=cuts) == output
    assert masked(data, named, cuts=list(range(len(data)))) == output
    for secret in secrets:
        assert secret.encode() not in output
        assert base64.b64encode(secret.encode()) not in output
