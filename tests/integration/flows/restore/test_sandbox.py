"""The PostgreSQL of a drill: it ends with its run, however that ends, and stands alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from flows.backup.postgres import connect
from flows.backup.programs import embedded_programs
from flows.engine.active_run import ActiveRun, activated
from flows.restore.sandbox import Sandbox, server_programs
from opsdb.processes.find import find_processes
from opsdb.processes.kill import kill_processes
from opsdb.record.entries import Entry
from opsdb.settings import Settings
from tests.support.waiting import wait_for

# Starts one, says so, and waits to be killed.
RUN = """
import sys
from pathlib import Path
from uuid import UUID
from flows.backup.programs import embedded_programs
from flows.engine.active_run import ActiveRun, activated
from flows.restore.sandbox import Sandbox, server_programs
from opsdb.settings import Settings

settings = Settings(home=Path(sys.argv[1]))
with activated(ActiveRun(UUID(sys.argv[2]), 1, settings, lambda _: None, in_lane=False)):
    with Sandbox(settings, server_programs(embedded_programs())) as sandbox:
        sandbox.start(roles=())
        print("ready", flush=True)
        sys.stdin.read()  # until it is killed, or the test ends
"""


def programs() -> Path:
    found = embedded_programs()
    assert found is not None
    return server_programs(found)


def active(settings: Settings, told: list[Entry], run_id: UUID | None = None) -> ActiveRun:
    return ActiveRun(run_id or uuid4(), 1, settings, told.append, in_lane=False)


@pytest.mark.parametrize("how", ["killed", "reaped"])
def test_server_of_a_killed_run_ends_and_its_folder_goes_with_the_next(tmp_path: Path, how: str) -> None:
    settings, run_id = Settings(home=tmp_path / ("home" * 30)), uuid4()  # no path is too long for its socket
    code = [sys.executable, "-c", RUN, str(settings.home), str(run_id)]
    with subprocess.Popen(code, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[4]) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == b"ready\n"
        (folder,) = settings.sandboxes.iterdir()
        assert find_processes(run_id=str(run_id))
        if how == "killed":
            run.kill()
            run.wait(10)
            wait_for(lambda: not find_processes(run_id=str(run_id)))
        else:  # as the worker does it for a run whose process is gone
            kill_processes(run_id=str(run_id), grace_seconds=0)
            assert find_processes(run_id=str(run_id)) == []
            run.send_signal(signal.SIGKILL)
    assert (folder / "PG_VERSION").exists()
    told: list[Entry] = []
    with activated(active(settings, told)), Sandbox(settings, programs()) as sandbox:
        sandbox.start(roles=["odoo", 'a"b'])
        assert [one for one in settings.sandboxes.iterdir() if one.name == folder.name] == []
        assert "removed the servers of killed drills" in str(told)
        with connect(sandbox.url) as db:
            roles = db.execute("SELECT rolname, rolcanlogin, rolsuper FROM pg_roles WHERE oid >= 16384 ORDER BY 1")
            assert roles.fetchall() == [('a"b', False, False), ("odoo", False, False)]
    assert list(settings.sandboxes.iterdir()) == []


def test_server_listens_nowhere_and_sees_no_files_of_this_host(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    secret = tmp_path / "secrets.json"
    secret.write_text("a word")
    with activated(active(settings, [])), Sandbox(settings, programs()) as sandbox:
        sandbox.start(roles=())
        assert sandbox.walls is not None
        with connect(sandbox.url) as db:  # as its superuser, which code in a dump is not
            assert db.execute("SELECT current_setting('listen_addresses')").fetchone() == ("",)
            db.execute("CREATE TABLE seen (line text)")
            if "no files of this host" in sandbox.walls.names:
                db.execute(f"COPY seen FROM PROGRAM 'cat {secret} 2>&1 || true'".encode())
                db.execute("COPY seen FROM PROGRAM 'ls /root /home 2>&1 || true'")
                assert "a word" not in str(db.execute("SELECT * FROM seen").fetchall())
            if "no network" in sandbox.walls.names:
                db.execute("TRUNCATE seen; COPY seen FROM PROGRAM 'tail -n +3 /proc/net/dev'")
                assert [str(line).split(":")[0].strip() for (line,) in db.execute("SELECT * FROM seen")] in ([], ["lo"])
            if os.geteuid() == 0:
                db.execute("TRUNCATE seen; COPY seen FROM PROGRAM 'id -un'")
                assert db.execute("SELECT line FROM seen").fetchall() == [("ops_sandbox",)]
