"""`ops up --demo` at the terminal of somebody who is not root, and Ctrl-C."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from tests.acceptance.room.desk import Desk
from tests.support.programs import program
from tests.support.waiting import wait_for

USER = "daemon"
"""Exists on every host. In a namespace of its own it owns what root owns outside, and has none of root's rights."""
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")


class Terminal:
    """A program on a terminal of its own, and all that it wrote there."""

    def __init__(self, command: list[str], env: dict[str, str], cwd: Path) -> None:
        self._ours, theirs = pty.openpty()
        self._written = b""
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *command],  # it becomes the controlling terminal
            env=env,
            cwd=cwd,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                part = os.read(self._ours, 65536)
            except OSError:  # EIO: the last program on it ended
                return
            if not part:
                return
            self._written += part

    @property
    def text(self) -> str:
        """What was written, without colours and cursor movements."""
        return CONTROL.sub("", self._written.decode(errors="replace"))

    def press_ctrl_c(self) -> None:
        """The terminal itself signals all programs in the foreground."""
        os.write(self._ours, b"\x03")

    def close(self) -> None:
        """Give the terminal back."""
        self._reader.join(5)
        os.close(self._ours)


def become() -> list[str]:
    """The words before a command of that user's; none where the host forbids to make user namespaces."""
    words = [program("unshare", package="util-linux"), "--user", f"--map-user={USER}", f"--map-group={USER}"]
    return [] if subprocess.run([*words, "true"], check=False, capture_output=True).returncode else words


def owners(desk: Desk) -> set[int]:
    """The users whose processes the room's are, as they are known outside of a namespace."""
    found = set()
    for pid in desk.processes():
        with suppress(FileNotFoundError):  # it ended meanwhile
            found.add(Path(f"/proc/{pid}/loginuid").stat().st_uid)
    return found


def test_demo_shows_a_real_backup_and_ctrl_c_leaves_nothing(own_folder: Path) -> None:
    desk = Desk(own_folder / "room")
    bystander = subprocess.Popen(["sleep", "3600"])
    words = become()
    env = {**desk.env, "HOME": str(own_folder), "TERM": "xterm", "COLUMNS": "100"}
    terminal = Terminal([*words, *desk.command("up", "--demo")], env, own_folder)
    try:
        wait_for(
            lambda: re.search(r"Try next.*ops status", terminal.text, re.DOTALL) or terminal.process.poll() is not None,
            seconds=400,
            what=f"the demo is done: {terminal.text[-3000:]}",
        )
        text = terminal.text
        dump = Path(re.findall(r"^ *file +(\S+\.dump) *$", text, re.MULTILINE)[-1])
        assert dump.stat().st_size > 1_000_000
        assert re.search(r"^ *size of the dump +\d\.\d MB *$", text, re.MULTILINE)
        assert re.search(r"^ *sha256 +[0-9a-f]{64} *$", text, re.MULTILINE)
        assert f"http://127.0.0.1:{desk.ports[0]}" in text
        assert len(re.findall(r"^  \S*ops \S+.*$", text[text.index("Try next") :], re.MULTILINE)) == 3
        databases = {run["params"]["odoo_db"]: run["lane"] for run in desk.json("runs")}
        assert databases == {"odoo_prod": "A"}
        if words:
            assert owners(desk) == {os.geteuid()}  # nobody else's: no account of PostgreSQL's own
        terminal.press_ctrl_c()
        assert terminal.process.wait(60) == 0
    finally:
        if terminal.process.poll() is None:
            terminal.process.send_signal(signal.SIGTERM)
            terminal.process.wait(60)
        terminal.close()
    assert "nothing it started still runs" in terminal.text
    assert "Traceback" not in terminal.text
    assert desk.processes() == {}
    assert bystander.poll() is None
    bystander.kill()
    bystander.wait()

    assert json.loads(desk.ops("status", "--json").out)["state"] == "stopped"
    for arguments in (("run", "odoo_db_backup", "-p", "odoo_db=odoo_prod"), ("runs",), ("cancel", "abcd1234")):
        assert "ops up" in desk.ops(*arguments).refused(3)
    if not words:  # all else is proven by now; a pass would claim a user who is not root
        pytest.skip("user namespaces are forbidden here: the room was seen as this user's alone")
