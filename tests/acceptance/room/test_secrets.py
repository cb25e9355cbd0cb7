"""The room's secrets stand in their files and in the environment of its processes, and nowhere else."""

from __future__ import annotations

import base64
import json
import os
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from deployments.room.postgres import PROGRAMS
from tests.acceptance.room.api import auth_string
from tests.acceptance.room.desk import Desk, processes_with
from tests.support.bucket_server import BucketServer, bucket_server
from tests.support.children import free_port
from tests.support.commands import run_ops_anew
from tests.support.mattermost import Mattermost
from tests.support.spellings import spellings
from tests.support.waiting import wait_for

KEEPERS = ("secrets.json", "prefect/profiles.toml", "backup-keys/own")


@pytest.fixture(scope="module")
def secrets(desk: Desk) -> list[bytes]:
    """The secrets, in every spelling in which they travel."""
    auth = auth_string(desk)
    key = str(json.loads((desk.home / "secrets.json").read_text())["prefect_encryption_key"])
    signing = desk.ops("backups", "key", "export").fine().strip().removeprefix("ops-backup-key-")
    spelled = [signing.encode(), base64.b64encode(bytes.fromhex(signing))]
    return [auth.partition(":")[2].encode(), base64.b64encode(auth.encode()), key.encode(), *spelled]


def found_in(text: bytes, secrets: list[bytes]) -> bool:
    return any(secret in text for secret in secrets)


@contextmanager
def watched() -> Iterator[set[bytes]]:
    """Every argument list on this host, for the length of the block."""
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
        yield seen
    finally:
        over.set()
        watcher.join()


@pytest.fixture(scope="module")
def arguments(desk: Desk, store: Callable[..., str]) -> set[bytes]:
    """Every argument list on this host while a run did its best to show what it knows."""
    block = store("shows-its-environment", "env", "cat /proc/self/environ", f"{PROGRAMS}/pg_dump --version")
    words = ("run", "stored_command", "-p", f"block={block}", "--wait", "--json")
    with watched() as seen:
        answer = run_ops_anew(*words, env=desk.env, cwd=desk.home.parent)  # one that is forked has no arguments to see
    assert json.loads(answer.fine())["status"] == "succeeded"
    return seen


@pytest.mark.promise(8)
def test_no_argument_list_holds_a_secret_while_a_run_goes(arguments: set[bytes], secrets: list[bytes]) -> None:
    assert any(b"stored_command" in line for line in arguments)
    assert any(line.startswith(b"/bin/bash") or b"bash" in line for line in arguments)
    assert [line for line in arguments if found_in(line, secrets)] == []


@pytest.mark.usefixtures("arguments")
@pytest.mark.promise(8)
def test_no_file_but_two_closed_ones_holds_a_secret(desk: Desk, secrets: list[bytes]) -> None:
    assert any(b"OPS_RUN_ID=" in content for path, content in files_of(desk) if path.name.endswith(".log"))
    holders = [str(path.relative_to(desk.home)) for path, content in files_of(desk) if found_in(content, secrets)]
    assert sorted(holders) == sorted(KEEPERS)
    assert {stat.S_IMODE((desk.home / name).stat().st_mode) for name in KEEPERS} == {0o600}


@pytest.mark.promise(13)
def test_prefects_port_is_open_in_no_worker_run_or_step(desk: Desk, store: Callable[..., str]) -> None:
    # whoever holds the listening socket can take requests, and each has the password
    block = store("waits", "sleep 600")
    run_id = json.loads(desk.ops("run", "stored_command", "-p", f"block={block}", "--json").fine())["id"]
    wait_for(lambda: processes_with(f"OPS_RUN_ID={run_id}"), seconds=30, what="the step runs")
    inodes = {
        connection.split()[9]
        for table in ("/proc/net/tcp", "/proc/net/tcp6")
        for connection in Path(table).read_text().splitlines()
        if connection.split()[3] == "0A" and connection.split()[1].endswith(f":{desk.ports[0]:04X}")
    }
    assert len(inodes) == 2
    holders = {path.parts[2] for path in Path("/proc").glob("[0-9]*/fd/*") if is_socket(path, inodes)}
    desk.ops("cancel", run_id, "--wait").fine()
    assert holders == {str(desk.json("status")["pid"]), str(desk.pid_of("prefect"))}


def is_socket(path: Path, inodes: set[str]) -> bool:
    with suppress(OSError):  # it was closed
        return str(path.readlink()) in {f"socket:[{inode}]" for inode in inodes}
    return False


def files_of(desk: Desk) -> Iterator[tuple[Path, bytes]]:
    """What the room's files hold, one after another: they are many, and come and go."""
    for folder, _, names in os.walk(desk.home):
        for path in (Path(folder, name) for name in names):
            with suppress(FileNotFoundError):
                if path.is_file() and not path.is_symlink():
                    yield path, path.read_bytes()


def dump_of(desk: Desk, database: str) -> bytes:
    """All rows of it."""
    argv = [str(PROGRAMS / "pg_dump"), "--inserts", f"--dbname={desk.url(database)}"]
    return subprocess.run(argv, check=True, capture_output=True).stdout


@pytest.mark.usefixtures("arguments")
@pytest.mark.parametrize("name", ["ops", "prefect"])
@pytest.mark.promise(8)
def test_no_database_holds_a_secret(desk: Desk, secrets: list[bytes], name: str) -> None:
    dump = dump_of(desk, name)
    assert b"shows-its-environment" in dump
    assert not found_in(dump, secrets)


@pytest.fixture
def buckets(tmp_path: Path) -> Iterator[BucketServer]:
    """An S3-compatible server."""
    with bucket_server(free_port(), tmp_path / "moto.log") as server:
        server.client().create_bucket(Bucket="backups")
        yield server


def test_keys_of_a_target_are_nowhere_whether_the_copy_succeeds_or_not(
    desk: Desk, database: str, save_target: Callable[..., str], buckets: BucketServer, chat: Mattermost
) -> None:
    wrong = "wrong/word+that=nobody&may see"
    keys = {"access_key_id": buckets.access_key_id, "secret_access_key": buckets.secret_access_key}
    order = ("odoo_db_backup", "-p", f"odoo_db={database}", "-p", "target=space")
    with watched() as seen:
        for secret, ends in ((keys["secret_access_key"], "succeeded"), (wrong, "failed")):
            fields = {"bucket": "backups", "endpoint_url": buckets.url, **keys, "secret_access_key": secret}
            save_target("space", **fields)
            run = desk.run(*order)
            assert run["status"] == ends, run
    assert "refused the keys" in run["error"]["message"]
    assert any(b"flows.offsite.transfer" in line for line in seen)

    words = [*keys.values(), wrong]
    secrets = [one for word in (*words, ":".join(keys.values())) for one in spellings(word)]
    assert any("upload" in path.name for path in (desk.home / "logs").rglob("*.log"))
    holders = [str(path.relative_to(desk.home)) for path, content in files_of(desk) if found_in(content, secrets)]
    assert holders == []
    told = {f"database {one}": dump_of(desk, one) for one in ("ops", "prefect")}
    told["metrics"] = httpx.get(f"http://127.0.0.1:{desk.ports[2]}/metrics", trust_env=False, timeout=20).content
    told["alerts"] = json.dumps(desk.json("alerts")).encode() + "\n".join(chat.texts).encode()
    told["arguments"] = b"\n".join(seen)
    assert [where for where, text in told.items() if found_in(text, secrets)] == []
