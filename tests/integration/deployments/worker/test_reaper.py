"""The reaper: what is left of runs on this host, with real processes and a real PostgreSQL."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, text

from deployments.worker.reaper import reap
from opsdb.processes.find import find_processes
from opsdb.processes.identity import identify
from opsdb.processes.kill import kill_processes
from opsdb.processes.running import RunProcess, entered, running_dir
from opsdb.runs.runs import RunFacts, apply_states
from opsdb.runs.sweeper import fence_run, sweep
from opsdb.settings import Settings
from opsdb.states import State
from opsdb.tables import Lane

RUN_PROCESS = """
import os, subprocess, sys, time
from uuid import UUID
from opsdb.processes.kill import become_subreaper
from opsdb.processes.running import enter
from opsdb.settings import load_settings
os.setsid()
become_subreaper()
run_id = UUID(sys.argv[1])
enter(load_settings(), run_id=run_id, attempt=1)
marked = {**os.environ, "OPS_RUN_ID": str(run_id)}
stubborn = "trap '' TERM; while :; do sleep 0.1; done"
subprocess.Popen(["bash", "-c", f"(setsid bash -c {stubborn!r} &)"], env=marked)          # left the session
if "bare" in sys.argv:
    subprocess.Popen(["env", "-i", "setsid", "/bin/bash", "-c", "sleep 300"])             # and its environment
time.sleep(0.3)
print("ready", flush=True)
time.sleep(300)
"""


class Host:
    """Runs of this host, and their real processes."""

    def __init__(self, settings: Settings, engine: Engine) -> None:
        self.settings, self.engine = settings, engine
        self.started: list[subprocess.Popen[bytes]] = []
        self.run_ids: list[UUID] = []

    def begin(self, *arguments: str) -> tuple[UUID, subprocess.Popen[bytes]]:
        run_id, now = uuid4(), datetime.now(UTC)
        facts = RunFacts(id=run_id, kind="k", lane=Lane.A, priority=0, session_id=None, params={}, created_at=now)
        states = [State(id=uuid4(), at=now, type="RUNNING", name="Running")]
        with self.engine.begin() as db:
            apply_states(db, facts=facts, states=states)
        env = {**os.environ, "OPS_HOME": str(self.settings.home)}
        command = [sys.executable, "-c", RUN_PROCESS, str(run_id), *arguments]
        process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE)
        self.started.append(process)
        self.run_ids.append(run_id)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        return run_id, process

    def reap(self, *served: UUID) -> int:
        return reap(self.settings, self.engine, served=lambda: served)

    def row(self, run_id: UUID) -> Any:
        with self.engine.connect() as db:
            return db.execute(text("SELECT * FROM ops.runs WHERE id = :id"), {"id": run_id}).one()

    def living(self, run_id: UUID) -> list[int]:
        return [process.pid for process in find_processes(run_id=str(run_id))]


@pytest.fixture
def host(settings: Settings, engine: Engine) -> Iterator[Host]:
    host = Host(settings, engine)
    yield host
    for process in host.started:
        process.kill()
        process.wait()
    for run_id in host.run_ids:
        kill_processes(run_id=str(run_id), grace_seconds=0)


def test_run_that_lives_and_is_not_fenced_is_left_alone(host: Host) -> None:
    run_id, process = host.begin()
    assert host.reap() == 0
    assert process.poll() is None
    assert host.living(run_id) != []


@pytest.mark.promise(2)
def test_dead_run_process_takes_the_children_that_left_its_session_with_it(host: Host) -> None:
    run_id, process = host.begin()
    process.kill()
    process.wait()
    assert host.living(run_id) != []
    assert host.reap(run_id) == 0  # its own worker is about to do it
    assert host.reap() == 1
    assert host.living(run_id) == []
    row = host.row(run_id)
    assert row.fence_reason == "HeartbeatTimeout"
    assert row.reaped_at is not None
    assert list(entered(host.settings)) == []


def test_run_whose_outcome_is_recorded_was_not_lost_with_its_process(host: Host) -> None:
    run_id, process = host.begin()
    with host.engine.begin() as db:
        recorded = "UPDATE ops.runs SET outcome = 'succeeded', outcome_at = clock_timestamp() WHERE id = :id"
        db.execute(text(recorded), {"id": run_id})
    process.kill()
    process.wait()
    assert host.reap() == 1
    assert host.living(run_id) == []
    with host.engine.begin() as db:
        assert sweep(db, host.settings) == []
        assert db.scalar(text("SELECT count(*) FROM ops.alert_episodes")) == 0
    row = host.row(run_id)
    assert (row.status, row.fenced_at, row.error) == ("succeeded", None, None)


@pytest.mark.parametrize("served", [True, False])
def test_fenced_run_is_killed_at_once_with_all_that_descends_from_it(host: Host, *, served: bool) -> None:
    run_id, process = host.begin("bare")
    descendants = [int(line) for line in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    assert len(descendants) >= 2  # one without its environment, one without its session
    with host.engine.begin() as db:
        fence_run(db, run_id=run_id, reason="DeadlineExceeded")
    began = time.monotonic()
    assert host.reap(*([run_id] if served else [])) == 1
    assert time.monotonic() - began < 4.5  # the grace is 5 s
    assert process.wait(5) == -9
    assert host.living(run_id) == []
    assert [pid for pid in descendants if identify(pid) is not None] == []
    assert host.row(run_id).reaped_at is not None


def test_stranger_with_the_pid_of_a_dead_run_process_is_not_touched(host: Host) -> None:
    run_id, process = host.begin()
    process.kill()
    process.wait()
    stranger = subprocess.Popen(["sleep", "300"], start_new_session=True)
    host.started.append(stranger)
    path = running_dir(host.settings) / f"{run_id}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"pid": stranger.pid}))
    with host.engine.begin() as db:
        fence_run(db, run_id=run_id, reason="DeadlineExceeded")
    assert host.reap() == 1
    time.sleep(0.2)
    assert stranger.poll() is None
    assert host.living(run_id) == []


def test_entry_of_an_earlier_boot_kills_nobody(host: Host) -> None:
    run_id, process = host.begin()
    path = running_dir(host.settings) / f"{run_id}.json"
    process.kill()
    process.wait()
    other = subprocess.Popen(["sleep", "300"], start_new_session=True)
    host.started.append(other)
    found = identify(other.pid)
    assert found is not None
    entry = json.loads(path.read_text()) | {**asdict(found), "boot": "before"}
    path.write_text(json.dumps(entry))
    assert not RunProcess(**entry).alive
    assert host.reap() == 1
    assert other.poll() is None


@pytest.mark.gate
def test_what_cannot_be_killed_is_an_event_and_stays_on_the_list(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id, process = host.begin()
    process.kill()
    process.wait()
    with monkeypatch.context() as powerless:
        powerless.setattr("opsdb.processes.kill._send", lambda _process, _number: False)
        powerless.setattr(host, "settings", host.settings.model_copy(update={"time_scale": 0.001}))
        assert host.reap() == 0
        assert host.reap() == 0
    row = host.row(run_id)
    assert (row.fenced_at, row.reaped_at) == (None, None)
    with host.engine.connect() as db:
        events = db.execute(text("SELECT level, data FROM ops.run_events WHERE run_id = :id"), {"id": run_id}).all()
    assert [event.level for event in events] == ["error"]
    assert events[0].data["pids"]
    assert host.reap() == 1
    assert host.row(run_id).reaped_at is not None


def test_run_that_is_over_in_the_database_may_not_live(host: Host) -> None:
    run_id, process = host.begin()
    now = datetime.now(UTC)
    with host.engine.begin() as db:
        facts = RunFacts(id=run_id, kind="k", lane=Lane.A, priority=0, session_id=None, params={}, created_at=now)
        apply_states(db, facts=facts, states=[State(id=uuid4(), at=now, type="CANCELLED", name="Cancelled")])
        assert host.reap() == 0
        db.execute(text("UPDATE ops.runs SET updated_at = updated_at - interval '11 s'"))
    assert host.reap() == 1
    assert process.wait(5) == -9
    assert host.row(run_id).status == "cancelled"


def test_run_whose_process_died_without_its_worker_is_alerted_of(host: Host) -> None:
    run_id, process = host.begin()
    process.kill()
    process.wait()
    assert host.reap() == 1
    assert host.reap() == 0
    with host.engine.connect() as db:
        rows = db.execute(text("SELECT rule, subject FROM ops.alert_episodes")).tuples().all()
    assert rows == [("stuck", f"{run_id}/1")]
