"""The room's secrets stand in their two files and in the environment of its processes, and nowhere else."""

from __future__ import annotations

import base64
import json
import stat
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from deployments.postgres import PROGRAMS
from tests.acceptance.room.api import auth_string
from tests.acceptance.room.desk import Desk

pytestmark = pytest.mark.timeout(180)

KEEPERS = ("secrets.json", "prefect/profiles.toml")


@pytest.fixture(scope="module")
def secrets(desk: Desk) -> list[bytes]:
    """The secrets, in every spelling in which they travel."""
    auth = auth_string(desk)
    key = str(json.loads((desk.home / "secrets.json").read_text())["prefect_encryption_key"])
    return [auth.partition(":")[2].encode(), base64.b64encode(auth.encode()), key.encode()]


def found_in(text: bytes, secrets: list[bytes]) -> bool:
    return any(secret in text for secret in secrets)


@pytest.fixture(scope="module")
def arguments(desk: Desk, store: Callable[..., str]) -> set[bytes]:
    """Every argument list on this host while a run did its best to show what it knows."""
    block = store("shows-its-environment", "env", "cat /proc/self/environ", f"{PROGRAMS}/pg_dump --version")
    over = threading.Event()
    seen: set[bytes] = set()

    def watch() -> None:
        while not over.wait(0.01):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                with suppress(OSError):  # it ended
                    seen.add(path.read_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        run = desk.run("stored_command", "-p", f"block={block}")
    finally:
        over.set()
        watcher.join()
    assert run["status"] == "succeeded"
    return seen


def test_no_argument_list_holds_a_secret_while_a_run_goes(arguments: set[bytes], secrets: list[bytes]) -> None:
    assert any(b"stored_command" in line for line in arguments)
    assert any(line.startswith(b"/bin/bash") or b"bash" in line for line in arguments)
    assert [line for line in arguments if found_in(line, secrets)] == []


@pytest.mark.usefixtures("arguments")
def test_no_file_but_two_closed_ones_holds_a_secret(desk: Desk, secrets: list[bytes]) -> None:
    files = [path for path in desk.home.rglob("*") if path.is_file() and not path.is_symlink()]
    assert any(b"OPS_RUN_ID=" in path.read_bytes() for path in files if path.name.endswith(".log"))
    holders = [str(path.relative_to(desk.home)) for path in files if found_in(path.read_bytes(), secrets)]
    assert sorted(holders) == sorted(KEEPERS)
    assert {stat.S_IMODE((desk.home / name).stat().st_mode) for name in KEEPERS} == {0o600}


@pytest.mark.usefixtures("arguments")
@pytest.mark.parametrize("name", ["ops", "prefect"])
def test_no_database_holds_a_secret(desk: Desk, secrets: list[bytes], name: str) -> None:
    dump = subprocess.run(
        [str(PROGRAMS / "pg_dump"), "--inserts", f"--dbname={desk.url(name)}"], check=True, capture_output=True
    ).stdout
    assert b"shows-its-environment" in dump
    assert not found_in(dump, secrets)
