"""A room that starts as things are: its reader gone, with few open files, on a small disk that then fills up."""

from __future__ import annotations

import errno
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.acceptance.room.desk import START_SECONDS, Desk
from tests.support.waiting import wait_for

SHELL = 'ulimit -Sn 64; "$@" 2>&1 | head -1'


@pytest.fixture
def cramped(small_disk: Callable[[int], Path]) -> Iterator[Desk]:
    """A desk whose room is to lie on a disk of 240 MB."""
    desk = Desk(small_disk(240) / ".ops")
    yield desk
    desk.ops("down", timeout=120).fine()
    assert desk.processes() == {}


def pids(desk: Desk) -> dict[str, int | None]:
    """The processes of the parts."""
    return {part["name"]: part["pid"] for part in json.loads(desk.ops("status", "--json").out)["parts"]}


def fill_up(path: Path) -> None:
    """Write to it until its disk is full."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 4096)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise


def test_room_starts_without_a_reader_and_outlives_a_full_disk(cramped: Desk) -> None:
    began = subprocess.run(
        ["/bin/bash", "-c", SHELL, "bash", *cramped.command("up", "--detach")],
        env=cramped.env,
        cwd=cramped.home.parent,
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        check=True,
    )
    assert began.stdout == "postgres: starting\n"  # the pipe ends with the command itself, which waited
    assert json.loads(cramped.ops("status", "--json").fine())["ready"]
    before = pids(cramped)
    assert "Max open files            4096 " in Path(f"/proc/{before['prefect']}/limits").read_text()

    fill_up(cramped.home.parent / "fill")
    full = cramped.ops("status")
    assert f"the disk of {cramped.home} is full (0 B free)" in " ".join(full.out.split())
    assert json.loads(cramped.ops("status", "--json").out)["disk"] is not None
    started = cramped.ops("run", "disk_space", "--json")
    (cramped.home.parent / "fill").unlink()
    if started.code:
        assert "Traceback" not in started.err
        started = cramped.ops("run", "disk_space", "--json")
    run_id = json.loads(started.fine())["id"]

    def succeeded() -> bool:
        shown = cramped.ops("show", run_id, "--json")  # it may not be recorded yet
        return shown.code == 0 and json.loads(shown.out)["status"] == "succeeded"

    wait_for(succeeded, seconds=180, what="the run succeeds after all")
    wait_for(
        lambda: json.loads(cramped.ops("status", "--json").out)["ready"], seconds=120, what="all parts are ready again"
    )
    assert {**pids(cramped), "deploy": None} == before


def test_room_does_not_start_on_a_disk_that_is_too_small(small_disk: Callable[[int], Path]) -> None:
    desk = Desk(small_disk(20) / ".ops")
    for detach in ((), ("--detach",)):
        refused = desk.ops("up", *detach).refused(2)
        assert "free, the room needs 150.0 MB to start: make room on that disk" in refused
    assert not desk.home.exists()
    assert desk.processes() == {}


def test_room_does_not_start_where_too_few_files_may_be_open(own_folder: Path) -> None:
    desk = Desk(own_folder / ".ops")
    limited = ["/bin/bash", "-c", 'ulimit -Sn 64; ulimit -Hn 64; exec "$@"', "bash", *desk.command("up", "--detach")]
    done = subprocess.run(limited, env=desk.env, cwd=own_folder, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "at most 64 files may be open here, the room needs 512" in done.stderr
    assert desk.processes() == {}


def test_second_deploy_in_a_row_compares_nothing_and_a_new_template_is_seen(desk: Desk) -> None:
    for _ in range(3):
        said = desk.ops("deploy").fine()
    assert "all of it as at the last deploy" in said
    template = Path(desk.settings["OPS_TEMPLATES"]) / "seen_at_once.yaml"
    template.parent.mkdir(exist_ok=True)
    template.write_text(
        "kind: seen_at_once\ndescription: Nothing.\nsteps: [{name: one, command: 'true', timeout: 9}]\n"
    )
    try:
        assert "seen_at_once" in desk.ops("deploy").fine()
    finally:
        template.unlink()
        assert "its template is gone" in desk.ops("deploy").fine()
