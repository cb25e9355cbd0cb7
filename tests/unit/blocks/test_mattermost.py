"""What the fields of a webhook and an answer of its server mean."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from blocks.mattermost import check_fields, check_server, judge_answer
from tests.support.mattermost import TOKEN


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({}, []),
        ({"channels": ["one"]}, []),
        ({"channels": ["one", "two"]}, ["channels"]),
        ({"token": "short"}, ["token"]),
        ({"token": f"/hooks/{TOKEN}"}, ["token"]),
        ({"token": None}, ["token"]),
    ],
)
def test_fields_that_alerts_would_stumble_over(change: dict[str, Any], wrong: list[str]) -> None:
    checks = check_fields({"token": TOKEN, **change})
    assert [check.subject for check in checks if not check.ok] == wrong
    assert TOKEN not in repr(checks)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (httpx.Response(200, json={"status": "OK"}), ""),
        (httpx.Response(200, json={"status": "UNHEALTHY"}), "reports an error"),
        (httpx.Response(503, text="down"), "reports an error"),
        (httpx.Response(200, text="<!DOCTYPE html>"), "something else"),
        (httpx.Response(200, json=["OK"]), "something else"),
        (httpx.Response(404), "something else"),
        (httpx.Response(301, headers={"Location": "/login"}), "leads elsewhere"),
    ],
)
def test_only_a_healthy_mattermost_is_well(answer: httpx.Response, words: str) -> None:
    check = judge_answer("chat.example:8065", answer)
    assert check.ok is (words == "")
    assert words in check.found


@pytest.mark.parametrize(
    "name", ["", "https://chat.example/hooks/secret-token", "a b", "u:secret-token@h", "chat.example/"]
)
def test_host_name_that_is_none_is_not_asked_and_not_shown(name: str) -> None:
    check = check_server({"hostname": name})
    assert not check.ok
    assert "secret-token" not in repr(check)
