"""What errors and answers mean for a message."""

from __future__ import annotations

import pytest

from exporter.alerting.reasons import failure_of_status


@pytest.mark.parametrize(
    ("status", "reason", "lasting"),
    [
        (401, "login", True),
        (407, "proxy", True),
        (404, "configuration", True),
        (429, "rate_limited", False),
        (520, "server", False),
        # those that no standard knows, as proxies and firewalls answer them
        (299, "configuration", True),
        (399, "redirect", True),
        (419, "configuration", True),
        (499, "configuration", True),
        (999, "server", False),
    ],
)
def test_every_status_has_a_reason(status: int, reason: str, lasting: bool) -> None:
    failure = failure_of_status(status)
    assert (failure.reason, failure.lasting, failure.http_status) == (reason, lasting, status)
