"""How long an answer may take."""

from __future__ import annotations

import pytest

from exporter.metrics.server import ANSWER_SECONDS, answer_seconds


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, ANSWER_SECONDS),
        ("10", ANSWER_SECONDS),
        ("1", 0.9),
        ("0.5", 0.45),
        ("0", ANSWER_SECONDS),
        ("-3", ANSWER_SECONDS),
        ("nan", ANSWER_SECONDS),
        ("soon", ANSWER_SECONDS),
        ("1e9", ANSWER_SECONDS),
    ],
)
def test_answer_comes_before_prometheus_gives_up_and_within_3_s(header: str | None, seconds: float) -> None:
    assert answer_seconds(header) == pytest.approx(seconds)
    assert ANSWER_SECONDS < 3
