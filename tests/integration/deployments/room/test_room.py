"""The whole room on this machine, with real servers, and stand-ins for what `ops up` starts of ours."""

from __future__ import annotations

import errno
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

import httpx
import psutil
import psycopg
import pytest
import typer
from typer.testing import CliRunner

from cli import room as commands
from deployments.room import demo, ports, room
from deployments.room.postgres import PROGRAMS
from deployments.room.report import PartReport, RoomReport, current_report, read_report
from deployments.server import access
from opsdb.errors import RoomUnreachableError, UsageError
from opsdb.processes.identity import identify
from opsdb.settings import Settings, load_settings
from tests.support.children import free_port
from tests.support.foreign_listener import foreign_listener
from tests.support.programs import needs_root
from tests.support.waiting import wait_for

STAND_IN = Path(__file__).parents[1] / "stand_in"
START_SECONDS = 240.0  # beside other tests

T = TypeVar("T")


def parts(report: RoomReport | None) -> dict[str, PartReport]:
    assert report is not None
    return {part.name: part for part in report.parts}


def tree(report: RoomReport) -> list[psutil.Process]:
    """The processes of the room, the supervisor first."""
    supervisor = psutil.Process(report.pid)
    return [supervisor, *supervisor.children(recursive=True)]


def running(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [each for each in processes if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture(scope="module")
def settings() -> Iterator[Settings]:
    """Settings of a room with a short path and a port of its own; what is left of it is stopped by pid."""
    home = Path(tempfile.mkdtemp(prefix="room", dir="/tmp"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(STAND_IN)  # `python -m cli` finds the stand-in there
        for name in [name for name in os.environ if name.startswith(("OPS_", "PREFECT_"))]:
            patch.delenv(name)
        patch.setenv("OPS_HOME", str(home))
        for name in ("PREFECT", "HEALTH", "EXPORTER"):
            patch.setenv(f"OPS_{name}_PORT", str(free_port()))
        yield load_settings()
        room.stop_room(load_settings())
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def started(settings: Settings) -> RoomReport:
    """The room, started unless an earlier test left it running."""
    report = current_report(settings.home)
    if report is None or not report.all_ready:
        report = room.start_detached(settings, on_turn=lambda _report: None)
    return report


@pytest.fixture
def ops() -> Callable[..., tuple[int, str]]:
    """Runs a command of `cli/room.py`; returns its exit code and its output, or raises what it raised."""
    app = typer.Typer()
    commands.register(app)

    def invoke(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, arguments)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.output

    return invoke


def test_room_is_ready_and_says_so(
    started: RoomReport, settings: Settings, ops: Callable[..., tuple[int, str]]
) -> None:
    code, text = ops("status", "--json")
    shown = json.loads(text)
    assert code == 0
    assert shown["ready"] is True
    assert {part["name"]: part["state"] for part in shown["parts"]} == {
        "postgres": "ready",
        "databases": "done",
        "prefect": "ready",
        "deploy": "done",
        "worker": "ready",
        "sync": "ready",
        "exporter": "ready",
        "alerter": "ready",
    }
    assert f"exporter  http://127.0.0.1:{settings.exporter_port}/metrics" in " ".join(ops("status")[1].split("\n"))
    assert ops("status")[0] == 0


def test_second_start_is_refused(started: RoomReport, settings: Settings, ops: Callable[..., tuple[int, str]]) -> None:
    for arguments in (["up"], ["up", "--detach"]):
        with pytest.raises(UsageError, match=f"runs already .pid {started.pid}"):
            ops(*arguments)
    assert current_report(settings.home) is not None


def test_everything_listens_on_loopback_only(started: RoomReport) -> None:
    listening = {
        connection.laddr.ip
        for process in tree(started)
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1", "::1"}


def test_prefects_port_is_held_by_the_supervisor_and_its_server_alone(started: RoomReport, settings: Settings) -> None:
    holders = {
        process.pid
        for process in tree(started)
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == settings.prefect_port
    }
    assert holders == {started.pid, parts(started)["prefect"].pid}


def test_localhost_is_the_room_by_ipv6_as_well(started: RoomReport, settings: Settings) -> None:
    # a browser keeps the password for the name, whoever answers it
    answer = httpx.get(
        f"http://[::1]:{settings.prefect_port}/api/admin/version",
        auth=("ops", access.read_secrets(settings).prefect_auth_string.removeprefix("ops:")),
        headers={"Host": f"localhost:{settings.prefect_port}"},
        trust_env=False,
    )
    assert answer.status_code == 200


def test_no_secret_stands_in_argv_or_in_a_log(started: RoomReport, settings: Settings) -> None:
    secrets = access.read_secrets(settings)
    arguments = "\n".join(" ".join(process.cmdline()) for process in tree(started))
    logs = "\n".join(path.read_text(errors="replace") for path in (settings.home / "log").iterdir())
    for secret in (secrets.prefect_auth_string.removeprefix("ops:"), secrets.prefect_encryption_key):
        assert secret not in arguments
        assert secret not in logs
        assert secret not in (settings.home / "room.json").read_text()


def test_files_of_the_room_are_closed_to_others(started: RoomReport, settings: Settings) -> None:
    assert settings.home.stat().st_mode & 0o007 == 0
    open_files = [path for path in settings.home.iterdir() if path.is_file() and path.stat().st_mode & 0o077]
    assert open_files == []
    assert [path for path in (settings.home / "log").iterdir() if path.stat().st_mode & 0o077] == []


def test_prefect_wants_auth_and_a_csrf_token_and_knows_its_own_origin_only(
    started: RoomReport, settings: Settings
) -> None:
    user, _, password = access.read_secrets(settings).prefect_auth_string.partition(":")
    own = access.ui_url(settings)
    with httpx.Client(base_url=f"{own}/api", trust_env=False) as http:
        assert http.get("/admin/version").status_code == 401
        assert http.get("/admin/version", auth=("ops", "wrong")).status_code == 401
        assert http.get("/admin/version", auth=(user, password)).status_code == 200
        assert http.post("/work_pools/filter", json={}, auth=(user, password)).status_code == 403
        for origin, allowed in ((own, own), ("http://evil.example", None)):
            answer = http.get("/health", headers={"Origin": origin})
            assert answer.headers.get("access-control-allow-origin") == allowed
        preflight = http.options(
            "/flow_runs/", headers={"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
        )
        assert preflight.status_code == 400


def test_pages_of_the_ui_come_from_behind_the_guard(started: RoomReport, settings: Settings) -> None:
    for path in ("/v2/", "/login"):
        answer = httpx.get(f"{access.ui_url(settings)}{path}", headers={"Accept": "text/html"}, trust_env=False)
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
    assert httpx.get(f"{access.ui_url(settings)}/docs", trust_env=False).status_code == 404


@needs_root
def test_another_user_reaches_neither_postgresql_nor_the_secrets(started: RoomReport, settings: Settings) -> None:
    # the system's Python: that the virtual environment is closed to others would prove nothing
    nobody = pwd.getpwnam("nobody")
    socket_path = settings.socket_dir / ".s.PGSQL.5432"
    code = (
        "import socket, sys\n"
        "for connect in (lambda: socket.socket(socket.AF_UNIX).connect(sys.argv[1]), lambda: open(sys.argv[2])):\n"
        "    try: connect(); print('reached')\n"
        "    except PermissionError: print('refused')\n"
    )
    done = subprocess.run(
        ["/usr/bin/python3", "-I", "-c", code, str(socket_path), str(access.secrets_path(settings))],
        user=nobody.pw_uid,
        group=nobody.pw_gid,
        extra_groups=[],
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["refused", "refused"]


@needs_root
def test_service_user_of_postgresql_may_not_log_in_either(started: RoomReport, settings: Settings) -> None:
    done = subprocess.run(
        [str(PROGRAMS / "psql"), "-h", str(settings.socket_dir), "-U", "postgres", "-c", "SELECT 1"],
        user="embedded_postgres",
        group="embedded_postgres",
        extra_groups=[],
        cwd="/",
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert 'Peer authentication failed for user "postgres"' in done.stderr


@pytest.mark.parametrize("name", ["sync", "worker", "exporter", "alerter", "postgres"])
def test_killed_part_is_started_again(started: RoomReport, settings: Settings, name: str) -> None:
    before = parts(started)[name]
    assert before.pid is not None
    os.kill(before.pid, signal.SIGKILL)

    def back() -> bool:
        now = parts(current_report(settings.home))
        return now[name].state == "ready" and now[name].pid != before.pid

    wait_for(back, seconds=90, what=f"{name} is back")
    after = parts(current_report(settings.home))[name]
    assert after.restarts == before.restarts + 1
    assert after.last_exit == -signal.SIGKILL
    wait_for(
        lambda: (report := current_report(settings.home)) and report.all_ready, seconds=90, what="all is ready again"
    )


def killed_and_back(settings: Settings, number: int) -> PartReport:
    """Prefect's server after it got the signal and works again under another pid."""
    before = parts(current_report(settings.home))["prefect"]
    assert before.pid is not None
    os.kill(before.pid, number)

    def back() -> PartReport | None:
        report = current_report(settings.home)
        now = parts(report)["prefect"]
        return now if report and report.all_ready and now.restarts == before.restarts + 1 else None

    after = wait_for(back, seconds=120, what="Prefect's server is back, and all that waits for it")
    assert after is not None
    return after


@needs_root
def test_port_of_a_killed_server_is_taken_by_nobody_and_its_clients_wait(
    started: RoomReport, settings: Settings, tmp_path: Path
) -> None:
    failed: list[str] = []
    longest = 0.0
    over = threading.Event()

    def loop() -> None:
        nonlocal longest
        with httpx.Client(base_url=access.ui_url(settings), timeout=60, trust_env=False) as http:
            while not over.is_set():
                begin = time.monotonic()
                try:
                    http.get("/api/health").raise_for_status()
                except httpx.HTTPError as error:
                    failed.append(repr(error))
                longest = max(longest, time.monotonic() - begin)

    client = threading.Thread(target=loop)
    with (
        foreign_listener(settings.prefect_port, tmp_path / "v4") as by_ipv4,
        foreign_listener(settings.prefect_port, tmp_path / "v6", address="::1") as by_ipv6,
    ):
        client.start()
        try:
            for _ in range(2):
                killed_and_back(settings, signal.SIGKILL)
        finally:
            over.set()
            client.join()
        assert by_ipv4.words == by_ipv6.words == [f"refused {errno.EADDRINUSE}"]
    print(f"{len(failed)} requests failed, the longest took {longest:.1f} s")
    assert len(failed) <= 2, failed  # those that the killed server had in hand


@pytest.mark.gate
def test_server_that_hangs_is_killed_and_started_again_and_status_says_so(
    started: RoomReport, settings: Settings, ops: Callable[..., tuple[int, str]]
) -> None:
    after = killed_and_back(settings, signal.SIGSTOP)
    assert after.last_exit == -signal.SIGKILL
    assert "prefect: did not answer for 20 s: killed and started again at" in ops("status")[1]


def test_new_password_is_refused_while_the_room_runs(
    started: RoomReport, settings: Settings, ops: Callable[..., tuple[int, str]]
) -> None:
    before = access.read_secrets(settings)
    with pytest.raises(UsageError, match=r"runs already .*`ops down` stops it"):
        ops("password", "--new")
    assert access.read_secrets(settings) == before


@pytest.mark.gate
def test_new_password_opens_the_next_room_and_the_old_one_does_not(
    started: RoomReport, settings: Settings, ops: Callable[..., tuple[int, str]]
) -> None:
    room.stop_room(settings)
    old = access.read_secrets(settings).prefect_auth_string
    code, new = ops("password", "--new")
    assert (code, new.strip() == old) == (0, False)
    assert ops("password") == (0, new)
    room.start_detached(settings, on_turn=lambda _report: None)
    url = f"{access.ui_url(settings)}/api/admin/version"
    for each, expected in ((old, 401), (new.strip(), 200)):
        assert httpx.get(url, auth=("ops", each.removeprefix("ops:")), trust_env=False).status_code == expected


def test_demo_databases_are_made_once_and_owned_by_odoo(started: RoomReport, settings: Settings) -> None:
    assert demo.make_databases(settings) == ["odoo_prod", "odoo_staging"]
    assert demo.make_databases(settings) == []
    with psycopg.connect(f"postgresql://postgres@/odoo_prod?host={settings.socket_dir}") as db:
        tables = db.execute(
            "SELECT relname, pg_get_userbyid(relowner) FROM pg_class WHERE relkind = 'r' AND relname = any(%s)",
            [["res_partner", "sale_order", "ir_module_module"]],
        ).fetchall()
        rows = db.execute("SELECT count(*) FROM sale_order_line").fetchone()
    assert sorted(tables) == [("ir_module_module", "odoo"), ("res_partner", "odoo"), ("sale_order", "odoo")]
    assert rows == (40_000,)


@pytest.mark.gate
def test_supervisor_that_is_killed_leaves_nothing_and_the_next_start_works(
    started: RoomReport, settings: Settings, ops: Callable[..., tuple[int, str]]
) -> None:
    processes = tree(started)
    assert len(processes) > 4
    os.kill(started.pid, signal.SIGKILL)
    wait_for(lambda: not running(processes), seconds=60, what="all processes of the room are gone")
    with pytest.raises(RoomUnreachableError):
        ops("status")
    assert json.loads(ops("status", "--json")[1])["state"] == "stopped"

    again = room.start_detached(settings, on_turn=lambda _report: None)
    assert again.pid != started.pid
    assert again.all_ready


def test_leftovers_of_a_killed_supervisor_are_stopped_by_identity(settings: Settings, started: RoomReport) -> None:
    assert "stopped" in ops_down(settings)
    report = read_report(settings.home)
    assert report is not None
    with (
        subprocess.Popen(["sleep", "60"], start_new_session=True) as leftover,
        subprocess.Popen(["sleep", "60"]) as other,
    ):
        real, foreign = identify(leftover.pid), identify(other.pid)
        assert real is not None
        assert foreign is not None
        value = json.loads((settings.home / "room.json").read_text())
        value["parts"][0] |= {"pid": real.pid, "start_ticks": real.start_ticks}
        value["parts"][1] |= {"pid": foreign.pid, "start_ticks": foreign.start_ticks - 1}
        (settings.home / "room.json").write_text(json.dumps(value))
        assert room.stop_leftovers(settings.home) == ["postgres"]
        assert leftover.wait(5) == -signal.SIGINT
        assert other.poll() is None
        other.kill()


def ops_down(settings: Settings) -> str:
    return "stopped" if room.stop_room(settings).report else "nothing"


@pytest.mark.gate
def test_room_started_with_interrupts_ignored_still_stops_on_one(settings: Settings) -> None:
    room.stop_room(settings)
    log = settings.home / "log" / "background.log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            # what a script does: `ops up &` in a shell without job control ignores SIGINT
            ["/bin/sh", "-c", f'"{sys.executable}" -m deployments.room.room & echo $!; wait $!; echo ended $?'],
            stdout=subprocess.PIPE,
            stderr=output,
            text=True,
        ) as shell,
        ExitStack() as stop_at_the_end,
    ):
        assert shell.stdout is not None
        pid = int(shell.stdout.readline())
        stop_at_the_end.callback(room.stop_room, settings)  # or a room that is not ready would be waited for

        def ready() -> RoomReport | None:
            report = current_report(settings.home)
            return report if report is not None and report.pid == pid and report.all_ready else None

        report = wait_for(ready, seconds=START_SECONDS, what="the room is ready")
        assert report is not None
        processes = tree(report)
        os.kill(pid, signal.SIGINT)
        assert shell.stdout.readline().split() == ["ended", "0"]
    assert running(processes) == []
    final = read_report(settings.home)
    assert final is not None
    assert final.state == "stopped"
    assert {part.state for part in final.parts} == {"stopped", "done"}


def test_down_without_a_room_is_no_error(settings: Settings, ops: Callable[..., tuple[int, str]]) -> None:
    room.stop_room(settings)
    code, text = ops("down")
    assert code == 0
    assert "No room runs" in text


@pytest.fixture
def other_home(settings: Settings) -> Iterator[Settings]:
    """Settings of a room that never started."""
    home = Path(tempfile.mkdtemp(prefix="room", dir="/tmp"))
    yield settings.model_copy(update={"home": home, **{name: free_port() for name in ports.PORTS}})
    shutil.rmtree(home, ignore_errors=True)


@pytest.mark.parametrize("name", ports.PORTS)
def test_port_that_is_taken_is_named_with_its_setting_before_anything_starts(other_home: Settings, name: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port := getattr(other_home, name)))
        taken.listen()
        with pytest.raises(UsageError, match=f"port {port} .*OPS_{name.upper()}"):
            room.run(other_home)
    assert not (other_home.home / "postgres").exists()
    assert not access.secrets_path(other_home).exists()


def test_secrets_that_others_can_read_stop_the_start_before_anything_starts(other_home: Settings) -> None:
    access.make_secrets(other_home)
    access.secrets_path(other_home).chmod(0o644)
    with pytest.raises(UsageError, match="chmod 600"):
        room.run(other_home)
    assert not (other_home.home / "postgres").exists()


@pytest.mark.gate
def test_failed_start_in_the_background_says_why(other_home: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPS_HOME", str(other_home.home))
    monkeypatch.setenv("OPS_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(RoomUnreachableError, match="databases ended 3 times with exit code 3"):
        room.start_detached(other_home, on_turn=lambda _report: None)


def test_demo_is_refused_on_a_server_of_others(
    monkeypatch: pytest.MonkeyPatch, ops: Callable[..., tuple[int, str]]
) -> None:
    monkeypatch.setenv("OPS_DATABASE_URL", "postgresql://someone@127.0.0.1/ops")
    with pytest.raises(UsageError, match="embedded"):
        ops("up", "--demo")
