"""Who may read the metrics."""

from __future__ import annotations

import base64
import threading

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from exporter.metrics import credentials
from exporter.metrics.credentials import Credentials, hash_password
from opsdb.errors import UsageError
from opsdb.web.guesses import FROM_ONE, IN_ALL


def basic(text: str) -> str:
    return f"Basic {base64.b64encode(text.encode()).decode()}"


def accepts(known: Credentials, header: str) -> bool:
    return known.check(header, client="192.0.2.9").right


@pytest.fixture(scope="module")
def stored() -> str:
    return hash_password("prom", "a:b ü")


def test_right_password_is_accepted_again_and_again(stored: str) -> None:
    known = Credentials(stored)
    assert all(accepts(known, basic("prom:a:b ü")) for _ in range(50))
    assert accepts(known, basic("prom:a:b ü").replace("Basic", "basic"))


def test_wrong_password_is_refused_also_after_the_right_one(stored: str) -> None:
    known = Credentials(stored)
    assert accepts(known, basic("prom:a:b ü"))
    for text in ("prom:a:b", "other:a:b ü", "prom", "", ":"):
        assert not accepts(known, basic(text))


@given(st.text(max_size=40))
@example("Basic ü")
@example("Basic /w==")
def test_broken_header_is_refused(header: str) -> None:
    assert not accepts(Credentials("prom:pbkdf2_sha256$1$00$" + "0" * 64), header)


def test_guesses_are_hashed_so_often_and_never_in_the_way_of_the_right_one(
    stored: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = Credentials(stored)
    assert accepts(known, basic("prom:a:b ü"))
    hashed = []

    def digest(password: str, *_: object) -> bytes:
        hashed.append(password)
        return b""

    monkeypatch.setattr(credentials, "_digest", digest)
    for number in range(100):
        verdict = known.check(basic(f"prom:{number}"), client="192.0.2.1")
        assert not verdict.right
        assert bool(verdict.retry_seconds) is (number >= FROM_ONE)
        assert accepts(known, basic("prom:a:b ü"))
    for number in range(100):  # by others as well
        known.check(basic(f"prom:{number}"), client=f"198.51.100.{number}")
    assert len(hashed) == IN_ALL - 1  # the right one was the first


def test_guess_that_is_being_hashed_does_not_keep_the_right_one_waiting(
    stored: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = Credentials(stored)
    assert accepts(known, basic("prom:a:b ü"))
    hashing, go_on = threading.Event(), threading.Event()

    def slowly(*_: object) -> bytes:
        hashing.set()
        go_on.wait(60)
        return b""

    monkeypatch.setattr(credentials, "_digest", slowly)
    guess = threading.Thread(target=accepts, args=(known, basic("prom:x")))
    guess.start()
    try:
        assert hashing.wait(10)
        assert accepts(known, basic("prom:a:b ü"))
    finally:
        go_on.set()
        guess.join()


def test_known_answer_costs_no_hashing(stored: str, monkeypatch: pytest.MonkeyPatch) -> None:
    known = Credentials(stored)
    assert accepts(known, basic("prom:a:b ü"))
    monkeypatch.setattr(credentials, "_digest", None)
    assert accepts(known, basic("prom:a:b ü"))


def test_hash_does_not_hold_the_password_and_is_salted(stored: str) -> None:
    assert "a:b" not in stored
    assert hash_password("prom", "a:b ü") != stored


@pytest.mark.parametrize("value", ["", "prom:secret", "prom:pbkdf2_sha256$0$00$" + "0" * 64, "prom:$2y$10$abc"])
def test_value_that_is_no_hash_is_refused_without_being_shown(value: str) -> None:
    with pytest.raises(UsageError, match="--hash-password") as refusal:
        Credentials(value)
    assert not value or value not in str(refusal.value)
