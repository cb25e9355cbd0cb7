"""Who may read the metrics."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.metrics import credentials
from exporter.metrics.credentials import Credentials, hash_password
from opsdb.errors import UsageError


def basic(text: str) -> str:
    return f"Basic {base64.b64encode(text.encode()).decode()}"


@pytest.fixture(scope="module")
def stored() -> str:
    return hash_password("prom", "a:b ü")


def test_right_password_is_accepted_again_and_again(stored: str) -> None:
    known = Credentials(stored)
    assert all(known.accept(basic("prom:a:b ü")) for _ in range(50))
    assert known.accept(basic("prom:a:b ü").replace("Basic", "basic"))


def test_wrong_password_is_refused_also_after_the_right_one(stored: str) -> None:
    known = Credentials(stored)
    assert known.accept(basic("prom:a:b ü"))
    for text in ("prom:a:b", "other:a:b ü", "prom", "", ":"):
        assert not known.accept(basic(text))


@given(st.text(max_size=40))
def test_broken_header_is_refused(header: str) -> None:
    assert not Credentials("prom:pbkdf2_sha256$1$00$" + "0" * 64).accept(header)


def test_known_answer_costs_no_hashing(stored: str, monkeypatch: pytest.MonkeyPatch) -> None:
    known = Credentials(stored)
    assert known.accept(basic("prom:a:b ü"))
    monkeypatch.setattr(credentials, "_digest", None)
    assert known.accept(basic("prom:a:b ü"))


def test_hash_does_not_hold_the_password_and_is_salted(stored: str) -> None:
    assert "a:b" not in stored
    assert hash_password("prom", "a:b ü") != stored


@pytest.mark.parametrize("value", ["", "prom:secret", "prom:pbkdf2_sha256$0$00$" + "0" * 64, "prom:$2y$10$abc"])
def test_value_that_is_no_hash_is_refused_without_being_shown(value: str) -> None:
    with pytest.raises(UsageError, match="--hash-password") as refusal:
        Credentials(value)
    assert not value or value not in str(refusal.value)
