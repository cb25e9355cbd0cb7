"""The test of a webhook against a server that keeps to Mattermost's contract. It never posts."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from blocks import mattermost
from blocks.mattermost import check_mattermost
from tests.support.children import free_port
from tests.support.mattermost import TOKEN, Mattermost, listening


@pytest.fixture
def chat() -> Iterator[Mattermost]:
    with listening(Mattermost()) as chat:
        yield chat


def found(chat: Mattermost, **changes: Any) -> str:
    """What is wrong with the server, or nothing."""
    fields = {"hostname": "127.0.0.1", "port": chat.port, "secure": False, "token": TOKEN, **changes}
    checks = check_mattermost(fields)
    assert TOKEN not in repr(checks)
    assert chat.posts == []
    [server] = [check for check in checks if check.subject == "server"]
    return "" if server.ok else server.found


def test_mattermost_that_answers_is_well(chat: Mattermost) -> None:
    assert found(chat) == ""


@pytest.mark.parametrize(
    ("mood", "words"), [(503, "reports an error"), ("redirect", "leads elsewhere"), ("login", "else than")]
)
def test_server_that_is_ill_or_none_of_mattermosts_is_told(chat: Mattermost, mood: Any, words: str) -> None:
    chat.moods = [mood]
    assert words in found(chat)


def test_server_that_hangs_is_given_up(chat: Mattermost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mattermost, "ASK_SECONDS", 0.5)
    chat.moods = ["hang"]
    began = time.monotonic()
    assert "did not answer within 0.5 s" in found(chat)
    assert time.monotonic() - began < 5


def test_wrong_port_path_and_scheme_are_told(chat: Mattermost) -> None:
    assert "refused" in found(chat, port=free_port())
    assert "something else" in found(chat, path="/chat")
    assert found(chat, secure=True) != ""
    assert found(chat, hostname="no-such-host.invalid") != ""
