"""An Odoo that is upgraded: a real checkout and database, Odoo and its container as stand-ins."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import psycopg

from flows.odoo_module_upgrade import odoo_module_upgrade
from tests.support.stand_ins.docker import Docker, docker

COMPOSE = "deploy/docker-compose.prod.yml"
ODOO = """#!{python}
import json, os, pathlib, sys, time
import psycopg
words, manner = sys.argv[1:], pathlib.Path({manner!r}).read_text()
mark = os.environ.get("OPS_UPGRADE_OF")
with open({ledger!r}, "a") as ledger:
    ledger.write(json.dumps([words, mark]) + "\\n")
assert mark and words[-1] == "--no-http" and words[words.index("-d") + 1] == mark, words
if words[0] == "shell":
    code = sys.stdin.read()
    assert "regenerate_assets_bundles()" in code and "env.cr.commit()" in code, code
    with psycopg.connect({url!r}) as db:
        (uuid,) = db.execute("SELECT value FROM ir_config_parameter WHERE key = 'database.uuid'").fetchone()
    print("database:", uuid if manner != "another" else "another")
    print("assets: dropped" if manner != "no assets" else "no")
    sys.exit()
assert "--stop-after-init" in words, words
if manner == "hangs":
    time.sleep(100)
if manner == "fails":
    sys.exit("Traceback: ParseError")
with psycopg.connect({url!r}) as db:
    for name in words[words.index("-u") + 1].split(","):
        db.execute("UPDATE ir_module_module SET latest_version = '18.0.2' WHERE name = %s", [name])
        if manner == "half way":
            db.execute("UPDATE ir_module_module SET state = 'to upgrade' WHERE name = %s", [name])
"""
_TABLES = """
CREATE TABLE ir_module_module (name text, state text, latest_version text);
CREATE TABLE ir_config_parameter (key text, value text);
INSERT INTO ir_config_parameter VALUES ('database.uuid', 'the-uuid-of-it');
INSERT INTO ir_module_module VALUES ('sale', 'installed', '18.0.1'), ('web', 'installed', '18.0.1'),
    ('stock', 'installed', '18.0.1'), ('hr', 'uninstalled', NULL);
"""


@dataclass
class WebServer:
    """Odoo's, which refuses so many requests before it is healthy."""

    url: str = ""
    unhealthy: int = 0


@dataclass
class Site:
    """A checkout, its origin, an Odoo in a container, and what the tests ask of them."""

    checkout: Path
    work: Path
    database: str
    daemon: Docker
    manner: Path
    ledger: Path
    odoo: WebServer

    @property
    def health(self) -> str:
        """Where Odoo says that it is there."""
        return self.odoo.url

    def upgrade(self, modules: list[str] | None = None, **changes: Any) -> dict[str, Any]:
        facts: dict[str, Any] = {
            "odoo_db": self.database,
            "modules": modules or ["sale"],
            "repo_dir": str(self.checkout),
            "health_url": self.health,
        }
        result: dict[str, Any] = odoo_module_upgrade(**(facts | changes))
        return result

    def odoo_calls(self) -> list[list[str]]:
        text = self.ledger.read_text() if self.ledger.exists() else ""
        return [json.loads(line)[0] for line in text.splitlines()]

    def commit(self, text: str) -> str:
        (self.work / "addon.py").write_text(text)
        git(self.work, "add", "-A")
        git(self.work, "commit", "-qm", text)
        git(self.work, "push", "-q", "origin", "HEAD")
        return git(self.work, "rev-parse", "HEAD")


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@localhost", "-c", "init.defaultBranch=main"]
    done = subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@contextmanager
def odoo_site(folder: Path, client: Path, *, database: str, url: str) -> Iterator[Site]:
    """A site in `folder` for the length of the block, with its `docker` in the folder `client`, and some modules."""
    origin, work, checkout, programs = (folder / name for name in ("origin", "work", "checkout", "container"))
    for one in (origin, work, programs):
        one.mkdir()
    git(origin, "init", "-q", "--bare")
    git(folder, "clone", "-q", str(origin), str(work))
    (work / "deploy").mkdir()
    (work / COMPOSE).write_text("services: {odoo: {}}\n")
    git(work, "add", "-A")
    git(work, "commit", "-qm", "first")
    git(work, "push", "-q", "origin", "HEAD")
    git(folder, "clone", "-q", str(origin), str(checkout))
    with psycopg.connect(url) as db:
        db.execute(_TABLES)
    manner, ledger = folder / "manner", folder / "ledger"
    manner.write_text("works")
    odoo = programs / "odoo"
    odoo.write_text(ODOO.format(python=sys.executable, manner=str(manner), ledger=str(ledger), url=url))
    odoo.chmod(0o755)
    with docker(client, compose_file=COMPOSE, service="odoo", programs=programs) as daemon, _web_server() as web:
        yield Site(checkout, work, database, daemon, manner, ledger, web)


def marked(database: str) -> list[int]:
    """What runs in the container for the database."""
    wanted, found = f"OPS_UPGRADE_OF={database}", []
    for process in psutil.process_iter():
        try:
            if wanted in (Path("/proc") / str(process.pid) / "environ").read_text(errors="replace").split("\0"):
                found.append(process.pid)
        except OSError:
            continue
    return found


@contextmanager
def _web_server() -> Iterator[WebServer]:
    made = WebServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.unhealthy -= 1
            self.send_response(502 if made.unhealthy >= 0 else 200)
            self.end_headers()

        def log_message(self, *_words: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        made.url = f"http://127.0.0.1:{server.server_address[1]}/web/health"
        yield made
        server.shutdown()


class ending:  # noqa: N801 - reads as a word
    """Something that happens beside the block, and is over at its end."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._thread = threading.Thread(target=work)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_error: object) -> None:
        self._thread.join(130)
