"""An Odoo that is upgraded: a real checkout and database, Odoo and its container as stand-ins."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psycopg

from flows.odoo_module_upgrade import odoo_module_upgrade
from tests.support.stand_ins.docker import Docker, docker
from tests.support.stand_ins.odoo import write_module, write_odoo

COMPOSE = "deploy/docker-compose.prod.yml"
_TABLES = """
CREATE TABLE ir_module_module (name text, state text, latest_version text);
CREATE TABLE ir_config_parameter (key text, value text);
INSERT INTO ir_config_parameter VALUES ('database.uuid', 'the-uuid-of-it');
INSERT INTO ir_module_module VALUES ('sale', 'installed', '18.0.1'), ('web', 'installed', '18.0.1'),
    ('stock', 'installed', '18.0.1'), ('base', 'installed', '18.0.1'), ('hr', 'uninstalled', NULL);
"""


@dataclass
class WebServer:
    """Odoo's, which refuses so many requests before it is healthy, and serves one database."""

    url: str = ""
    unhealthy: int = 0
    serves: str = ""
    database_away: bool = False
    leads: str = ""
    """Where its login page leads, if it has none of its own."""
    only_health: bool = False
    """Whether it is a program beside Odoo that says how that is, and not Odoo."""
    alone: bool = True
    """Whether that database is the only one, so that nobody is led to it first."""
    asked: list[str] = field(default_factory=list)
    running: Callable[[], bool] = lambda: True


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
    database_url: str
    image: Path
    """The modules that are in the image."""

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
            "protect": "none",
        }
        result: dict[str, Any] = odoo_module_upgrade(**(facts | changes))
        return result

    def odoo_calls(self) -> list[list[str]]:
        text = self.ledger.read_text() if self.ledger.exists() else ""
        return [json.loads(line) for line in text.splitlines()]

    @property
    def runs(self) -> int:
        """How many containers were started beside the service."""
        return sum(call[0] == "compose" and call[3] == "run" for call in self.daemon.calls)

    def upgrades(self) -> list[list[str]]:
        return [call for call in self.odoo_calls() if "-u" in call]

    def modules(self) -> dict[str, tuple[str, str]]:
        with psycopg.connect(self.database_url) as db:
            rows = db.execute("SELECT name, state, latest_version FROM ir_module_module WHERE name <> 'hr'").fetchall()
        return {name: (state, version) for name, state, version in rows}

    def mark(self, name: str, state: str) -> None:
        with psycopg.connect(self.database_url) as db:
            db.execute("UPDATE ir_module_module SET state = %s WHERE name = %s", (state, name))

    def commit(self, text: str, **modules: str) -> str:
        """Push a commit, with these versions of modules in the folder `addons`. Returns it."""
        (self.work / "addon.py").write_text(text)
        for name, version in modules.items():
            write_module(self.work / "addons", name, version)
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
    write_odoo(programs / "odoo", url=url, manner=manner, ledger=ledger)
    facts: dict[str, Any] = {"compose_file": COMPOSE, "service": "odoo", "programs": programs, "command": ["odoo"]}
    image = folder / "image"
    for name in ("base", "web", "sale", "stock"):
        write_module(image, name)
    # the checkout's code is mounted, and goes before that of the image
    facts["environment"] = {"ADDONS": f"{checkout}/addons:{image}"}
    with docker(client, **facts) as daemon, _web_server(database, lambda: not daemon.stopped) as web:
        yield Site(checkout, work, database, daemon, manner, ledger, web, url, image)


def upgrading(site: Site) -> list[int]:
    """The process of Odoo that upgrades the database, in the container beside the service."""
    found = site.daemon.containers.get(f"ops-upgrade-{site.database}")
    working = found is not None and found.process.poll() is None and bool(site.upgrades())
    return [found.process.pid] if found is not None and working else []


def half_done(site: Site) -> bool:
    """Whether an upgrade that hangs has come to where it does: `sale` is committed, `stock` stands `to upgrade`."""
    return bool(upgrading(site)) and site.modules()["sale"] == ("installed", "18.0.2")


@contextmanager
def _web_server(database: str, running: Callable[[], bool]) -> Iterator[WebServer]:
    made = WebServer(serves=database, running=running)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.asked.append(self.path)
            made.unhealthy -= 1
            place, _, query = self.path.partition("?")
            if place == "/always":  # a proxy's own page
                self._answer(200)
            elif made.unhealthy >= 0 or not made.running():
                self._answer(502)
            elif place == "/moved":
                self._answer(302, {"Location": "/always"})
            elif place == "/web/health":
                self._answer(500 if made.database_away and query == "db_server_status=1" else 200)
            elif place == "/web/login" and made.only_health:
                self._answer(404)
            elif place == "/web/login" and made.database_away:
                self._answer(500)
            elif place == "/web/login" and query == f"db={made.serves}":
                if made.leads:
                    self._answer(303, {"Location": made.leads})
                elif made.alone or "session_id=known" in (self.headers["Cookie"] or ""):
                    self._answer(200)
                else:
                    self._answer(302, {"Location": self.path, "Set-Cookie": "session_id=known"})
            elif place == "/web/login":
                self._answer(303, {"Location": "/web/database/selector"})
            else:
                self._answer(200)

        def _answer(self, status: int, headers: Mapping[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
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
