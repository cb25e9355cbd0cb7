"""What the findings about an ops database mean."""

from __future__ import annotations

from datetime import timedelta

import pytest

from blocks.database_check import judge_clock, judge_protection, judge_revision, judge_rights


@pytest.mark.parametrize(
    ("host", "encrypted", "ok"),
    [
        ("db.example", False, False),
        ("192.0.2.7", False, False),
        ("db.example", True, True),
        ("/run/postgresql", False, True),
        ("127.0.0.1", False, True),
        ("localhost", False, True),
        ("localhost.example", False, False),
    ],
)
def test_network_without_tls_is_told(host: str, encrypted: bool, ok: bool) -> None:
    assert judge_protection(host, encrypted=encrypted).ok is ok


@pytest.mark.parametrize(
    ("at", "words"),
    [("0002", ""), ("0001", "ops db upgrade"), (None, "ops db upgrade"), ("0003", "upgrade this installation")],
)
def test_schema_is_the_one_of_this_version_or_says_which_side_is_old(at: str | None, words: str) -> None:
    check = judge_revision(at, known=["0002", "0001"], newest="0002")
    assert check.ok is (words == "")
    assert words in check.advice


@pytest.mark.parametrize(("may", "wanted", "ok"), [(True, True, True), (False, False, True), (True, False, False)])
def test_login_may_do_what_it_is_for_and_no_more(may: bool, wanted: bool, ok: bool) -> None:
    assert judge_rights(may, wanted).ok is ok
    assert "ops_writer" in judge_rights(False, True).advice


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "to 1 s"), (-29, "to 29 s"), (31, "ahead"), (-600, "600 s behind")]
)
def test_clocks_that_differ_are_told(seconds: float, words: str) -> None:
    check = judge_clock(timedelta(seconds=seconds))
    assert words in check.found
    assert check.ok is (abs(seconds) < 30)
