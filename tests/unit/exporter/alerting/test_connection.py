"""Which proxy of the environment is used, and what one that cannot be used means."""

from __future__ import annotations

import pytest

from exporter.alerting.connection import find_way
from exporter.alerting.mattermost import MattermostWebhook
from opsdb.alerts.outbox import Failure
from tests.support.alerts_lab import message


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def test_proxy_for_all_protocols_is_not_for_alerts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1080")
    way = find_way("chat.example.org", 443, secure=True, verify=True, seconds=1)
    assert not way.proxied
    assert way.connection.host == "chat.example.org"


@pytest.mark.parametrize(
    "proxy", ["socks5://127.0.0.1:1080", "https://proxy:3128", "http://", "http://p:x", "http://["]
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_proxy_of_another_kind_is_named_as_what_somebody_must_change(
    monkeypatch: pytest.MonkeyPatch, proxy: str, scheme: str
) -> None:
    monkeypatch.setenv(f"{scheme}_proxy", proxy)
    webhook = MattermostWebhook(host="chat.example.org", token="h5xkq3zt1pgj8bdu7rwmcn4eya", secure=scheme == "https")
    assert webhook.post(message("hello")) == Failure(reason="proxy", lasting=True)
