"""How far a step is that runs long: in `ops`, and in what each command shows of it, and nowhere once it is over."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from deployments.room.postgres import PROGRAMS
from opsdb.runs.lookup import SILENT_SECONDS
from tests.acceptance.room.api import Api
from tests.acceptance.room.desk import Desk
from tests.support.waiting import wait_for

SHOWN = r"pg_dump  \d+\.\d MB  (\d+) % of about \d+\.\d MB  \S+ [kM]?B/s"

# The whole dump is made first, since only then its size is known; each pg_dump has a file of its own for that. Half of
# it at once, a little each 0.2 s for as long as `slow` is there, then the rest.
SLOW = """\
#!/bin/bash -e
case " $* " in *" --version "*|*" --schema-only "*) exec {real} "$@" ;; esac
whole=$(mktemp {folder}/whole-XXXXXX)
{real} "$@" > "$whole"
size=$(stat --format=%s "$whole")
head -c $((size / 2)) "$whole"
sent=$((size / 2))
while [ -e {folder}/slow ] && [ "$sent" -lt $((size * 9 / 10)) ]; do
  tail -c +$((sent + 1)) "$whole" | head -c 20000
  sent=$((sent + 20000))
  sleep 0.2
done
tail -c +$((sent + 1)) "$whole"
rm "$whole"
"""


@pytest.fixture
def slow(programs: Path, tmp_path: Path) -> Iterator[Path]:
    """Dumps are slow for as long as this file is there."""
    program = programs / "pg_dump"
    program.unlink()
    program.write_text(SLOW.format(real=PROGRAMS / "pg_dump", folder=tmp_path))
    program.chmod(0o755)
    yield tmp_path / "slow"
    program.unlink()
    program.symlink_to(PROGRAMS / "pg_dump")


@pytest.fixture
def large(desk: Desk, database: str) -> str:
    """A database with a dump of 6 MB."""
    with desk.database(database) as db:
        db.execute("CREATE TABLE data AS SELECT sha512(n::text::bytea) AS a FROM generate_series(1, 90000) n")
    return database


class Terminal:
    """A command at a terminal of 120 columns, until it ends by itself."""

    def __init__(self, desk: Desk, *arguments: str) -> None:
        self.text = ""
        self._handle, theirs = pty.openpty()
        self._process = subprocess.Popen(
            desk.command(*arguments),
            env={**desk.env, "COLUMNS": "120", "TERM": "xterm"},
            cwd=desk.home.parent,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        os.set_blocking(self._handle, False)

    def read(self) -> str:
        """All that it showed so far."""
        while True:
            try:
                data = os.read(self._handle, 65536)
            except OSError:  # nothing now, or the command is over
                return self.text
            if not data:
                return self.text
            self.text += data.decode(errors="replace")

    def ended(self) -> bool:
        """Whether it is over."""
        self.read()
        return self._process.poll() is not None

    def close(self) -> None:
        """End it if it does not end by itself."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        os.close(self._handle)


@pytest.fixture
def terminal(desk: Desk) -> Iterator[Callable[..., Terminal]]:
    """Starts a command at a terminal."""
    opened: list[Terminal] = []

    def start(*arguments: str) -> Terminal:
        opened.append(Terminal(desk, *arguments))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


def dumping(desk: Desk, run: str) -> dict[str, Any] | None:
    """How far the dump of a run is, as `--json` has it. None for a run that was started a moment ago as well."""
    answer = desk.ops("show", run, "--json")
    if answer.code:
        assert "One just started appears in seconds" in answer.err, answer
        return None
    steps = {step["name"]: step for step in json.loads(answer.out)["steps"]}
    found: dict[str, Any] | None = steps.get("pg_dump", {}).get("progress")
    return found


@contextmanager
def slowly(slow: Path) -> Iterator[None]:
    slow.touch()
    try:
        yield
    finally:
        slow.unlink(missing_ok=True)


def test_every_command_shows_how_far_a_dump_is_and_nothing_once_it_is_over(
    desk: Desk, large: str, slow: Path, terminal: Callable[..., Terminal], tmp_path: Path
) -> None:
    backup = ("run", "odoo_db_backup", "-p", f"odoo_db={large}", "--lane", "C")
    assert desk.run(*backup[1:])["status"] == "succeeded"  # by which the next one says how much is left
    with slowly(slow):
        live = terminal(*backup, "--wait")
        wait_for(lambda: re.search(SHOWN, live.read()), seconds=90, what="a live line of --wait")
        [found] = wait_for(lambda: desk.json("runs", "--status", "running", "--limit", "1"), what="it is listed")
        run = found["short_id"]
        followed = terminal("logs", run, "--follow")
        with (tmp_path / "plain").open("wb") as plain:
            piped = subprocess.Popen(
                desk.command("logs", run, "--follow"), env=desk.env, cwd=desk.home.parent, stdout=plain, stderr=plain
            )
        page = desk.ops("show", run).fine()
        assert re.search(rf"^progress +{SHOWN}", page, re.MULTILINE), page
        told = dumping(desk, run)
        assert told is not None
        assert 50 <= told["percent"] < 100
        assert told["total_bytes"] > 5_000_000
        wait_for(lambda: (dumping(desk, run) or told)["done_bytes"] > told["done_bytes"], seconds=60, what="more bytes")
        wait_for(lambda: re.search(SHOWN, followed.read()), seconds=60, what="a line of logs --follow")
        wait_for(lambda: re.search(SHOWN, (tmp_path / "plain").read_text()), seconds=60, what="a line without terminal")
    wait_for(lambda: live.ended() and followed.ended(), seconds=90, what="the end")
    assert piped.wait(60) == 0
    assert len(re.findall(SHOWN, (tmp_path / "plain").read_text())) <= 6  # one in ten seconds
    assert f"Run {run} succeeded." in live.text
    last = followed.text.rpartition(" left")[2].rpartition("B/s")[2]
    assert "\x1b[2K" in last  # the line is taken away before other output
    page = desk.ops("show", run).fine()
    assert "progress" not in page
    assert dumping(desk, run) is None


def test_progress_is_shown_on_the_page_of_the_run_and_goes_with_its_end(
    desk: Desk, api: Api, large: str, slow: Path
) -> None:
    def shown() -> list[Any]:
        found = api.post("/artifacts/filter", artifacts={"flow_run_id": {"any_": [run]}})
        return [one for one in found if one["type"] == "progress"]

    with slowly(slow):
        run = desk.json("run", "odoo_db_backup", "-p", f"odoo_db={large}", "--lane", "C")["id"]
        wait_for(shown, seconds=90, what="progress is shown")
        (one,) = shown()
        assert one["key"] == f"backup-{large.replace('_', '-')}--progress"
        assert re.search(r"^Step \d+ \S+: .*B", one["description"]), one
    wait_for(lambda: desk.json("show", run)["status"] == "succeeded", seconds=240, what="its end")
    assert shown() == []


def test_process_that_is_stopped_or_killed_leaves_no_progress_that_looks_alive(
    desk: Desk, large: str, slow: Path
) -> None:
    with slowly(slow):
        run = desk.json("run", "odoo_db_backup", "-p", f"odoo_db={large}", "--lane", "C")["id"]
        wait_for(lambda: dumping(desk, run), seconds=90, what="progress")
        pid = json.loads((desk.home / "running" / f"{run}.json").read_text())["pid"]
        os.kill(pid, signal.SIGSTOP)
        try:
            wait_for(lambda: dumping(desk, run) is None, seconds=SILENT_SECONDS + 10, what="no progress")
            page = desk.ops("show", run).fine()
        finally:
            os.kill(pid, signal.SIGCONT)
        assert re.search(r"^status +running", page, re.MULTILINE), page
        assert "progress" not in page
        wait_for(lambda: dumping(desk, run), seconds=30, what="progress of the process that goes on")
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: desk.json("show", run)["status"] == "succeeded", seconds=240, what="the second attempt's end")
    steps = [step for step in desk.json("show", run)["steps"] if step["name"] == "pg_dump"]
    assert [(step["status"], step["progress"]) for step in steps] == [("interrupted", None), ("succeeded", None)]
