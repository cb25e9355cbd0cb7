"""Which run processes live on this host."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from uuid import uuid4

import pytest

from opsdb.processes.running import enter, entered, entry_of, running_dir
from opsdb.settings import Settings


@pytest.fixture
def home(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)


def test_entered_process_is_known_as_long_as_it_lives(home: Settings) -> None:
    run_id = uuid4()
    path = enter(home, run_id=run_id, attempt=2)
    [(found_path, process)] = entered(home)
    assert (found_path, process.run_id, process.attempt, process.pid) == (path, str(run_id), 2, os.getpid())
    assert process.alive
    assert entry_of(home, run_id) == (path, process)
    path.unlink()
    assert list(entered(home)) == []
    assert entry_of(home, run_id) == (path, None)


@pytest.mark.parametrize("change", [{"start_ticks": 1}, {"boot": "another"}])
def test_stranger_with_the_same_pid_is_not_taken_for_it(home: Settings, change: dict[str, object]) -> None:
    path = enter(home, run_id=uuid4(), attempt=1)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    [(_, process)] = entered(home)
    assert not process.alive


def test_zombie_does_not_count_as_alive(home: Settings) -> None:
    path = enter(home, run_id=uuid4(), attempt=1)
    child = subprocess.Popen(["/bin/true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # ended, and not reaped
    stat = Path(f"/proc/{child.pid}/stat").read_text()
    ticks = int(stat[stat.rindex(")") + 2 :].split()[19])
    path.write_text(json.dumps(json.loads(path.read_text()) | {"pid": child.pid, "start_ticks": ticks}))
    [(_, process)] = entered(home)
    assert not process.alive
    child.wait()


def test_torn_and_foreign_files_are_passed_over(home: Settings) -> None:
    enter(home, run_id=uuid4(), attempt=1)
    (running_dir(home) / "torn.json").write_text('{"run_id": "x", "pid"')
    (running_dir(home) / "foreign.json").write_text('{"colour": "red"}')
    assert len(list(entered(home))) == 1
