"""Finding and killing, tried on real processes."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import textwrap
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest

from opsdb.errors import UsageError
from opsdb.processes import find as processes
from opsdb.processes import kill as killing
from opsdb.processes.find import find_processes
from opsdb.processes.kill import direct_child, kill_processes

IGNORING = "trap '' TERM; echo ready; while :; do sleep 1; done"


def until(condition: Callable[[], bool], *, seconds: float = 10) -> bool:
    limit = time.monotonic() + seconds
    while not condition() and time.monotonic() < limit:
        time.sleep(0.01)
    return condition()


@pytest.fixture
def run_id() -> Iterator[str]:
    name = str(uuid.uuid4())
    yield name
    kill_processes(run_id=name, grace_seconds=0)


def start(script: str, *, run_id: str, step: str | None = None) -> subprocess.Popen[bytes]:
    """A bash in a session of its own that has said `ready`."""
    marks = {"OPS_RUN_ID": run_id} | ({"OPS_STEP": step} if step else {})
    child = subprocess.Popen(
        ["bash", "-c", script], env={**os.environ, **marks}, stdout=subprocess.PIPE, start_new_session=True
    )
    assert child.stdout
    assert child.stdout.readline() == b"ready\n"
    child.stdout.close()
    return child


def state(pid: int) -> str:
    """The letter of proc(5), or `-`."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except OSError:
        return "-"


def pids(**what: object) -> set[int]:
    return {process.pid for process in find_processes(**what)}  # type: ignore[arg-type]  # passed on as it came


def test_find_takes_exact_matches_only(run_id: str) -> None:
    child = start("echo ready; exec sleep 60", run_id=run_id, step="1")
    longer = start("echo ready; exec sleep 60", run_id=run_id + "0", step="1")
    try:
        assert pids(run_id=run_id) == pids(run_id=run_id, step="1") == {child.pid}
        assert pids(run_id=run_id, step="10") == pids(run_id=run_id[:-1]) == set()
        assert pids(run_id=run_id, exclude=[child.pid]) == set()
    finally:
        kill_processes(run_id=run_id + "0", grace_seconds=0)
        for process in (child, longer):
            process.kill()
            process.wait()


def test_find_refuses_an_empty_run_id() -> None:
    with pytest.raises(UsageError, match="must not be empty"):
        find_processes(run_id="")


def test_find_does_not_count_zombies(run_id: str) -> None:
    child = start("echo ready", run_id=run_id)
    assert os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert pids(run_id=run_id, shell_pid=child.pid) == set()
    assert child.wait() == 0


def test_kill_takes_one_step_and_leaves_the_one_beside_it(run_id: str) -> None:
    one = start("echo ready; exec sleep 60", run_id=run_id, step="1")
    two = start("echo ready; exec sleep 60", run_id=run_id, step="2")
    report = kill_processes(run_id=run_id, step="1", shell_pid=one.pid, grace_seconds=5)
    assert (report.found, report.killed, report.survivors) == (1, 0, ())
    assert one.wait() == -signal.SIGTERM
    assert pids(run_id=run_id) == {two.pid}
    two.kill()
    two.wait()


def test_kill_follows_a_child_that_cleared_its_environment(run_id: str) -> None:
    shell = start("env -i setsid sleep 60 & until pgrep -P $! -x sleep || pgrep -P $$ -x sleep; do :; done >&2;"
                  " echo ready; wait", run_id=run_id, step="1")  # fmt: skip
    found = find_processes(run_id=run_id, step="1", shell_pid=shell.pid)
    assert len(found) == 2
    assert kill_processes(run_id=run_id, step="1", shell_pid=shell.pid, grace_seconds=5).survivors == ()
    shell.wait()
    for process in found:
        assert until(lambda pid=process.pid: state(pid) in "Z-")  # type: ignore[misc]  # mypy: defaults of lambdas


def test_kill_uses_kill_where_term_is_ignored(run_id: str) -> None:
    shell = start(IGNORING, run_id=run_id)
    before = time.monotonic()
    report = kill_processes(run_id=run_id, grace_seconds=0.5)
    assert 0.5 <= time.monotonic() - before < 3
    assert report.killed >= 1
    assert report.survivors == ()
    assert shell.wait() == -signal.SIGKILL


def test_kill_wakes_a_stopped_process_so_that_it_gets_the_term(run_id: str) -> None:
    shell = start("echo ready; exec sleep 60", run_id=run_id)
    shell.send_signal(signal.SIGSTOP)
    assert kill_processes(run_id=run_id, grace_seconds=30).killed == 0
    assert shell.wait() == -signal.SIGTERM


def test_child_that_a_process_left_when_it_ended_while_we_looked_is_found(
    run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_shell: dict[str, int] = {"start_ticks": 1, "ppid": 1, "group": 4, "session": 4}
    shell = processes.Process(pid=4, alive=False, corpse=True, **of_shell)
    child = processes.Process(pid=5, alive=True, corpse=False, **of_shell)
    looks = iter([({4: shell}, True), ({4: shell, 5: child}, True)])
    monkeypatch.setattr(processes, "snapshot", lambda: next(looks))
    assert find_processes(run_id=run_id, shell_pid=4) == [child]


def test_corpse_that_was_one_before_is_not_waited_for(run_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    corpse = processes.Process(pid=4, start_ticks=1, ppid=1, group=4, session=4, alive=False, corpse=True)
    looks = iter([({4: corpse}, True), ({4: corpse}, True)])
    monkeypatch.setattr(processes, "snapshot", lambda: next(looks))
    assert find_processes(run_id=run_id, shell_pid=4) == []


def test_kill_tells_a_shell_before_what_it_started(run_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell that sees its child die first may end without its trap."""
    script = "echo ready; sleep 60; true"
    for _ in range(5):
        script = f"bash -c {shlex.quote(script)}; true"
    shell = start(script, run_id=run_id)
    parents = {process.pid: process.ppid for process in find_processes(run_id=run_id)}
    told: list[int] = []
    send = killing._send

    def tell(process: processes.Process, number: signal.Signals) -> bool:
        told.append(process.pid)
        return send(process, number)

    monkeypatch.setattr(killing, "_send", tell)
    kill_processes(run_id=run_id, grace_seconds=5)
    assert len(parents) >= 6
    shell.wait()
    for pid in parents.keys() - {shell.pid}:
        assert told.index(parents[pid]) < told.index(pid)


def test_kill_lets_a_trap_clean_up_within_the_grace(run_id: str) -> None:
    shell = start("trap 'sleep 0.5 && exit 7' TERM; echo ready; while :; do sleep 0.1; done", run_id=run_id)
    assert kill_processes(run_id=run_id, grace_seconds=30).killed == 0
    assert shell.wait() == 7


def test_kill_lets_what_a_trap_starts_start_more(run_id: str) -> None:
    clean_up = 'said=$(sh -c "sleep 1; echo done; exit 0"); [ "$said" = done ] && exit 7'
    shell = start(f"trap '{clean_up}' TERM; echo ready; while :; do sleep 0.1; done", run_id=run_id)
    assert kill_processes(run_id=run_id, grace_seconds=30).killed == 0
    assert shell.wait() == 7


def test_kill_leaves_the_exit_status_of_a_direct_child(run_id: str) -> None:
    with direct_child(lambda: start("trap 'exit 9' TERM; echo ready; sleep 60 & wait", run_id=run_id)) as shell:
        others = _other_children(shell.pid)
        assert kill_processes(run_id=run_id, orphans=True, exclude=others, grace_seconds=5).survivors == ()
        assert shell.wait() == 9


def _other_children(pid: int) -> set[int]:
    """Children of the test's own process that are none of the test's business."""
    listed = subprocess.run(["pgrep", "-P", str(os.getpid())], capture_output=True, text=True, check=False).stdout
    return {int(line) for line in listed.split()} - {pid}


def test_orphans_without_environment_are_swept_and_reaped_by_the_subreaper(run_id: str) -> None:
    """In a process of its own: being a subreaper is for life."""
    script = """
        import os, subprocess, sys, time
        from opsdb.processes.kill import become_subreaper, kill_processes
        from opsdb.processes.find import find_processes
        become_subreaper()
        run_id = sys.argv[1]
        quiet = subprocess.Popen(["sleep", "60"])  # a child of ours, of no step
        subprocess.run(
            ["bash", "-c", "env -i setsid bash -c 'trap \\"\\" TERM; sleep 60 & wait; wait' & sleep 0.1"],
            env={**os.environ, "OPS_RUN_ID": run_id}, start_new_session=True, check=True,
        )
        for _ in range(300):  # until both have begun, and have left the environment behind
            found = find_processes(run_id=run_id, orphans=True)
            if len(found) == 2 and not find_processes(run_id=run_id):
                break
            time.sleep(0.05)
        report = kill_processes(run_id=run_id, orphans=True, grace_seconds=0.3)
        assert report.found == len(found) == 2, (report, found)
        assert report.killed >= 1 and not report.survivors, report
        assert not any(os.path.exists(f"/proc/{process.pid}") for process in found), "zombies are left"
        assert quiet.poll() is None
        quiet.kill()
        assert quiet.wait() == -9
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script), run_id], check=True, timeout=60)


def test_one_look_is_enough_while_nothing_ends(monkeypatch: pytest.MonkeyPatch, run_id: str) -> None:
    # kernel threads have no environment to read: they once looked like processes that had just ended
    snapshot = Mock(side_effect=processes.snapshot)
    monkeypatch.setattr(processes, "snapshot", snapshot)
    for _ in range(20):  # others on this machine may end meanwhile
        find_processes(run_id=run_id)
        if snapshot.call_count == 1:
            return
        snapshot.reset_mock()
    raise AssertionError("every search looked more than once")
