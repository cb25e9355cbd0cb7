"""The password goes to ourselves only: what commands and processes do when another user has the room's port."""

from __future__ import annotations

import os
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from deployments.server import access
from opsdb.listener import guard
from opsdb.settings import Settings
from tests.support.children import free_port
from tests.support.commands import REPOSITORY, run_ops
from tests.support.foreign_listener import OTHER_USER, ForeignListener, foreign_listener
from tests.support.programs import needs_root

OTHERS = ["runbooks", "deploy", "backups --target any", "worker", "sync"]
COMMANDS = ["run nothing", *(pytest.param(command, marks=pytest.mark.gate) for command in OTHERS)]


@pytest.fixture
def stopped(settings: Settings) -> Settings:
    """Settings of a room that ran before and does not run now."""
    stopped = settings.model_copy(update={"prefect_port": free_port(), "health_port": free_port()})
    access.make_secrets(stopped)
    access.write_profile(stopped)
    return stopped


@pytest.fixture
def env(stopped: Settings) -> dict[str, str]:
    """What its operator's commands are started with."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(("OPS_", "PREFECT_"))},
        "OPS_HOME": str(stopped.home),
        "OPS_DATABASE_URL": stopped.ops_url,
        "OPS_PREFECT_PORT": str(stopped.prefect_port),
        "OPS_HEALTH_PORT": str(stopped.health_port),
    }


@pytest.fixture
def foreign(stopped: Settings, tmp_path: Path) -> Iterator[ForeignListener]:
    with foreign_listener(stopped.prefect_port, tmp_path / "heard") as listener:
        listener.wait_until("listening")
        yield listener


@needs_root
@pytest.mark.parametrize("command", COMMANDS)
def test_command_names_the_foreign_listener_and_sends_nothing(
    stopped: Settings, env: dict[str, str], foreign: ForeignListener, command: str
) -> None:
    answer = run_ops(*command.split(), env=env, cwd=REPOSITORY)
    assert f"port {stopped.prefect_port} on 127.0.0.1 belongs to {OTHER_USER}" in answer.refused(3)
    assert foreign.heard == []


@pytest.mark.gate
@needs_root
def test_doctor_has_the_foreign_listener_as_a_finding(
    stopped: Settings, env: dict[str, str], foreign: ForeignListener
) -> None:
    answer = run_ops("doctor", "--json", env=env, cwd=REPOSITORY)
    assert f"port {stopped.prefect_port} on 127.0.0.1 belongs to {OTHER_USER}" in answer.out
    assert foreign.heard == []


def test_run_says_that_the_room_is_not_running(env: dict[str, str]) -> None:
    refused = run_ops("run", "nothing", env=env, cwd=REPOSITORY).refused(3)
    assert "the room is not running" in refused
    assert "`ops up`" in refused


@pytest.mark.parametrize("foreign_url", ["https://prefect.example/api", "http://192.0.2.1:4200/api"])
def test_address_of_another_prefect_in_the_environment_is_not_used(env: dict[str, str], foreign_url: str) -> None:
    # a room has no way to point at another host: what comes from outside is not read
    refused = run_ops("run", "nothing", env=env | {"PREFECT_API_URL": foreign_url}, cwd=REPOSITORY).refused(3)
    assert f"nobody listens on http://127.0.0.1:{env['OPS_PREFECT_PORT']}" in refused


class _StandIn(BaseHTTPRequestHandler):
    """Closes each connection after its answer."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(b"true")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class names it so
        pass


@needs_root
def test_client_whose_server_is_gone_sends_nothing_to_who_took_its_port(stopped: Settings, tmp_path: Path) -> None:
    # a run process that outlives a room which was killed as a whole
    port = stopped.prefect_port
    server = ThreadingHTTPServer(("127.0.0.1", port), _StandIn)
    server.daemon_threads = True
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    wanted = {
        PREFECT_API_URL: access.client_env(stopped)["PREFECT_API_URL"],
        PREFECT_API_AUTH_STRING: access.read_secrets(stopped).prefect_auth_string,
        PREFECT_CLIENT_MAX_RETRIES: 0,
    }
    guard(port)
    with temporary_settings(wanted), get_client(sync_client=True) as client:
        assert client.api_healthcheck() is None
        with foreign_listener(port, tmp_path / "heard") as foreign:
            assert foreign.words[0].startswith("refused")
            server.shutdown()
            server.server_close()
            foreign.wait_until("listening")
            failures = [client.api_healthcheck() for _ in range(5)]
            assert all(failures)
            assert foreign.heard == []
