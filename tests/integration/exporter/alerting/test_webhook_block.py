"""A webhook out of a block of Prefect's: read at each message, remembered while Prefect is away."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from exporter.alerting.destinations import Destination, read_destinations
from opsdb.errors import UsageError
from opsdb.settings import Settings
from tests.support.alerts_lab import message
from tests.support.foreign_listener import foreign_listener
from tests.support.mattermost import TOKEN, Mattermost, listening
from tests.support.programs import needs_root

AUTH = "ops:correct horse battery staple"
BLOCK_PATH = "/api/block_types/slug/mattermost-webhook/block_documents/name/ops-alerts?include_secrets=true"


class Prefect(ThreadingHTTPServer):
    """As much of Prefect's API as is asked, with its password."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.data: dict[str, Any] | None = None
        self.status = 200


class _Handler(BaseHTTPRequestHandler):
    server: Prefect

    def do_GET(self) -> None:
        wanted = "Basic " + base64.b64encode(AUTH.encode()).decode()
        status, body = self.server.status, {"data": self.server.data}
        if self.headers["Authorization"] != wanted:
            status = 401
        elif self.path != BLOCK_PATH or self.server.data is None:
            status = 404
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class names it so
        pass


@pytest.fixture
def chat() -> Iterator[Mattermost]:
    with listening(Mattermost()) as chat:
        yield chat


@pytest.fixture
def prefect(chat: Mattermost) -> Iterator[Prefect]:
    server = Prefect()
    server.data = {"hostname": "127.0.0.1", "port": chat.port, "secure": False, "token": TOKEN, "botname": "ops"}
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def destination(prefect: Prefect, tmp_path: Path) -> Destination:
    (tmp_path / "secrets.json").write_text(json.dumps({"prefect_auth_string": AUTH}))
    settings = Settings(
        home=tmp_path, prefect_port=prefect.server_port, alert_urls=SecretStr("critical=block:ops-alerts")
    )
    [found] = read_destinations(settings)
    return found


def test_message_goes_where_the_block_says(chat: Mattermost, prefect: Prefect, destination: Destination) -> None:
    assert destination.name == "block:ops-alerts"
    assert TOKEN not in repr(destination)
    assert destination.send(message("one")) is None
    prefect.data = {**(prefect.data or {}), "channels": ["#night"]}  # changed in the UI
    assert destination.send(message("two")) is None
    assert TOKEN not in repr(destination)
    assert [(post["text"], post.get("channel")) for post in chat.posts] == [("one", None), ("two", "night")]


def test_while_prefect_is_away_what_was_read_last_is_used(
    chat: Mattermost, prefect: Prefect, destination: Destination
) -> None:
    assert destination.send(message("one")) is None
    prefect.status = 503
    assert destination.send(message("two")) is None
    prefect.shutdown()
    prefect.server_close()
    assert destination.send(message("three")) is None
    assert chat.texts == ["one", "two", "three"]


@needs_root
def test_while_another_user_has_prefects_port_he_hears_nothing(
    chat: Mattermost, prefect: Prefect, destination: Destination, tmp_path: Path
) -> None:
    assert destination.send(message("one")) is None
    with foreign_listener(prefect.server_port, tmp_path / "heard") as foreign:
        prefect.shutdown()
        prefect.server_close()
        foreign.wait_until("listening")
        assert destination.send(message("two")) is None
        assert foreign.heard == []
    assert chat.texts == ["one", "two"]


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({"status": 503}, ("server", False, 503)),
        ({"data": None}, ("configuration", True, 404)),
        ({"data": {"hostname": "127.0.0.1"}}, ("configuration", True, None)),
        ({"data": {"hostname": "h", "token": TOKEN, "channels": ["a", "b"]}}, ("configuration", True, None)),
        ({"data": {"hostname": "127.0.0.1", "token": ""}}, ("configuration", True, None)),
        ({"data": {"hostname": "127.0.0.1", "token": "pasted…"}}, ("configuration", True, None)),
        ({"data": {"hostname": "chat..example.org", "token": TOKEN}}, ("configuration", True, None)),
        ({"data": []}, ("configuration", True, None)),
    ],
)
def test_block_that_cannot_be_used_is_a_failure_that_says_why(
    prefect: Prefect, destination: Destination, change: dict[str, Any], wanted: tuple[str, bool, int | None]
) -> None:
    vars(prefect).update(change)
    failure = destination.send(message("text"))
    assert failure is not None
    assert (failure.reason, failure.lasting, failure.http_status) == wanted


def test_wrong_password_and_a_server_that_is_away(prefect: Prefect, destination: Destination, tmp_path: Path) -> None:
    (tmp_path / "secrets.json").write_text(json.dumps({"prefect_auth_string": "ops:wrong"}))
    failure = destination.send(message("text"))
    assert failure is not None
    assert (failure.reason, failure.http_status) == ("configuration", 401)
    prefect.shutdown()
    prefect.server_close()
    failure = destination.send(message("text"))
    assert failure is not None
    assert failure.reason == "refused"


@pytest.mark.parametrize("name", ["", "Ops", "a/b", "../secrets", "a?b"])
def test_block_with_an_impossible_name_is_refused_at_once(name: str) -> None:
    with pytest.raises(UsageError, match="entry 1: a block's name"):
        read_destinations(Settings(alert_urls=SecretStr(f"block:{name}")))
