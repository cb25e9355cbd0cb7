"""The upgrade against a real git, curl and PostgreSQL. Docker and Odoo are stand-ins that keep the real ones' rules."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from blocks.odoo_host import OdooHost
from flows import odoo_module_upgrade as module
from flows.checkout import CHECK_OUT
from flows.dry_run import dry_run
from flows.odoo_module_upgrade import odoo_module_upgrade
from opsdb.errors import PreflightError, StepFailedError, StepTimeoutError
from opsdb.settings import load_settings
from tests.integration.flows.conftest import wait_until
from tests.stand_ins.docker import Docker, docker
from tests.stand_ins.ssh import Ssh, ssh

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


@dataclass
class Site:
    """A checkout, its origin, an Odoo in a container, and what the tests ask of them."""

    checkout: Path
    work: Path
    database: str
    daemon: Docker
    manner: Path
    ledger: Path
    health: str

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


@pytest.fixture
def health() -> Iterator[str]:
    """An address that is healthy from its third request on."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200 if len(asked) > 2 else 502)
            self.end_headers()

        def log_message(self, *_words: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/web/health"
        server.shutdown()


@pytest.fixture
def odoo_database(database: str, postgres: str) -> str:
    """The URL of a database with some modules."""
    url = postgres.format(database=database)
    with psycopg.connect(url) as db:
        db.execute("CREATE TABLE ir_module_module (name text, state text, latest_version text)")
        db.execute("CREATE TABLE ir_config_parameter (key text, value text)")
        db.execute("INSERT INTO ir_config_parameter VALUES ('database.uuid', 'the-uuid-of-it')")
        db.execute(
            "INSERT INTO ir_module_module VALUES ('sale', 'installed', '18.0.1'), ('web', 'installed', '18.0.1'),"
            " ('stock', 'installed', '18.0.1'), ('hr', 'uninstalled', NULL)"
        )
    return url


@pytest.fixture
def client(short_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on PATH, short enough for a socket."""
    folder = short_folder / tmp_path.name[-12:]
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


@pytest.fixture
def site(database: str, odoo_database: str, tmp_path: Path, client: Path, health: str) -> Iterator[Site]:
    origin, work, checkout, programs = (tmp_path / name for name in ("origin", "work", "checkout", "container"))
    for folder in (origin, work, programs):
        folder.mkdir()
    git(origin, "init", "-q", "--bare")
    git(tmp_path, "clone", "-q", str(origin), str(work))
    (work / "deploy").mkdir()
    (work / COMPOSE).write_text("services: {odoo: {}}\n")
    git(work, "add", "-A")
    git(work, "commit", "-qm", "first")
    git(work, "push", "-q", "origin", "HEAD")
    git(tmp_path, "clone", "-q", str(origin), str(checkout))
    manner, ledger = tmp_path / "manner", tmp_path / "ledger"
    manner.write_text("works")
    odoo = programs / "odoo"
    odoo.write_text(ODOO.format(python=sys.executable, manner=str(manner), ledger=str(ledger), url=odoo_database))
    odoo.chmod(0o755)
    with docker(client, compose_file=COMPOSE, service="odoo", programs=programs) as daemon:
        yield Site(checkout, work, database, daemon, manner, ledger, health)


@pytest.fixture
def far(site: Site, client: Path) -> Ssh:
    """The block `far` leads over SSH to the host where the site is: Docker is there alone."""
    over_there = client / "far"
    over_there.mkdir()
    (client / "docker").rename(over_there / "docker")
    (client / "docker").write_text("#!/bin/sh\necho 'Docker on the wrong host' >&2; exit 1\n")
    (client / "docker").chmod(0o755)
    there = {"ssh_destination": "deploy@odoo.example", "ssh_port": 2222}
    OdooHost(**there, repo_dir=str(site.checkout), health_url=site.health).save("far", overwrite=True)
    return ssh(client, far_side={"PATH": f"{over_there}:/usr/bin:/bin", "HOME": "/root"})


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


def test_dry_run_looks_at_the_modules_and_runs_neither_git_nor_docker(site: Site) -> None:
    commit = git(site.checkout, "rev-parse", "HEAD")
    site.commit("second")
    facts = {"odoo_db": site.database, "repo_dir": str(site.checkout), "health_url": site.health}
    planned = dry_run(odoo_module_upgrade, {**facts, "modules": ["sale"]}, settings=load_settings())
    assert planned.error is None
    assert [one.name for one in planned.steps] == [
        "preflight",
        "note_versions",
        "pull_latest",
        "upgrade_modules",
        "check_modules",
        "rebuild_assets",
        "restart_odoo",
        "wait_health",
    ]
    assert planned.steps[3].environment["MODULES"] == "sale"
    assert (git(site.checkout, "rev-parse", "HEAD"), site.odoo_calls()) == (commit, [])
    unknown = dry_run(odoo_module_upgrade, {**facts, "modules": ["hr"]}, settings=load_settings())
    assert "hr" in str(unknown.error)


def test_upgrade_checks_out_upgrades_once_drops_assets_restarts_and_awaits_health(site: Site) -> None:
    before = git(site.checkout, "rev-parse", "HEAD")
    commit = site.commit("second")
    result = site.upgrade(["sale", "web"])
    assert (result["commit_before"], result["commit"]) == (before, commit)
    assert git(site.checkout, "rev-parse", "HEAD") == commit
    assert result["modules"] == {name: {"before": "18.0.1", "after": "18.0.2"} for name in ("sale", "web")}
    assert site.odoo_calls() == [
        ["-d", site.database, "-u", "sale,web", "--stop-after-init", "--no-http"],
        ["shell", "-d", site.database, "--no-http"],
    ]
    assert site.daemon.calls[-1] == ["compose", "-f", COMPOSE, "restart", "odoo"]
    json.dumps(result)


@pytest.mark.parametrize("kind", ["branch", "tag", "commit"])
def test_wanted_ref_is_checked_out_exactly(site: Site, kind: str) -> None:
    wanted = site.commit("wanted")
    git(site.work, "tag", "v2")
    git(site.work, "push", "-q", "origin", "v2", "HEAD:refs/heads/release/18.2")
    site.commit("later, on main")
    site.upgrade(git_ref={"branch": "release/18.2", "tag": "v2", "commit": wanted}[kind])
    assert git(site.checkout, "rev-parse", "HEAD") == wanted


def test_local_branch_does_not_stand_in_for_the_one_of_origin_and_keeps_its_commits(site: Site) -> None:
    (site.checkout / "own").write_text("mine")
    git(site.checkout, "add", "-A")
    git(site.checkout, "commit", "-qm", "local")
    own = git(site.checkout, "rev-parse", "HEAD")
    branch = git(site.checkout, "rev-parse", "--abbrev-ref", "HEAD")
    commit = site.commit("second")
    site.upgrade(git_ref=branch)
    assert git(site.checkout, "rev-parse", "HEAD") == commit
    assert git(site.checkout, "rev-parse", branch) == own


def test_dirty_checkout_is_refused_and_kept(site: Site) -> None:
    (site.checkout / COMPOSE).write_text("changed by hand\n")
    site.commit("second")
    with pytest.raises(StepFailedError, match="changed by hand: commit or stash"):
        site.upgrade()
    assert (site.checkout / COMPOSE).read_text() == "changed by hand\n"
    assert site.odoo_calls() == []


def test_checkout_that_moved_on_since_it_was_made_is_not_upgraded_to(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.commit("wanted")
    monkeypatch.setattr(module, "CHECK_OUT", f'{CHECK_OUT}\ngit -C "$REPO" checkout -q --detach HEAD~1\n')
    with pytest.raises(StepFailedError, match="something else has checked it out"):
        site.upgrade()
    assert site.odoo_calls() == []


def test_unknown_ref_and_missing_compose_file_are_named(site: Site) -> None:
    with pytest.raises(StepFailedError, match="no branch, tag or commit nowhere"):
        site.upgrade(git_ref="nowhere")
    with pytest.raises(StepFailedError, match=r"other\.yml"):
        site.upgrade(compose_file="deploy/other.yml")
    assert site.odoo_calls() == []


@pytest.mark.parametrize(
    ("modules", "message"),
    [(["sael"], "sael is unknown, did you mean sale"), (["sale", "hr"], "hr is uninstalled")],
)
def test_module_that_odoo_would_ignore_is_refused_before_anything_changes(
    site: Site, modules: list[str], message: str
) -> None:
    before = git(site.checkout, "rev-parse", "HEAD")
    site.commit("second")
    with pytest.raises(PreflightError, match=message):
        site.upgrade(modules)
    assert git(site.checkout, "rev-parse", "HEAD") == before
    assert site.daemon.calls == []


@pytest.mark.parametrize(
    ("manner", "message"),
    [
        ("fails", "ParseError"),
        ("half way", "sale is to upgrade"),
        ("no assets", "not|without having dropped"),
        ("another", "another database .* is another, .* the-uuid-of-it"),
    ],
)
def test_odoo_that_does_not_do_its_work_fails_the_run_and_restarts_nothing(
    site: Site, manner: str, message: str
) -> None:
    site.manner.write_text(manner)
    with pytest.raises(StepFailedError, match=message):
        site.upgrade()
    assert [call for call in site.daemon.calls if "restart" in call] == []


def test_timeout_ends_odoo_in_the_container_too(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.manner.write_text("hangs")
    monkeypatch.setattr(module, "UPGRADE_SECONDS", 12)
    monkeypatch.setattr(module, "STOP_SECONDS", -60)  # its own limit in the container does not help
    with pytest.raises(StepTimeoutError):
        site.upgrade()
    assert marked(site.database) == []


def test_limit_in_the_container_ends_odoo_when_the_client_is_gone(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.manner.write_text("hangs")
    monkeypatch.setattr(module, "UPGRADE_SECONDS", 14)

    def kill_client() -> None:
        wait_until(lambda: bool(marked(site.database)))
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):  # it ended meanwhile
                if any("docker" in word for word in process.cmdline()[:3]):
                    process.kill()

    with ending(kill_client), pytest.raises(StepFailedError):
        site.upgrade()
    wait_until(lambda: marked(site.database) == [], seconds=15)


def test_second_upgrade_of_a_database_that_is_being_upgraded_is_refused(site: Site) -> None:
    words = ["sleep", "60"]
    with subprocess.Popen(words, env={"OPS_UPGRADE_OF": site.database}, executable="/bin/sleep") as other:
        with pytest.raises(StepFailedError, match=f"another upgrade of {site.database} runs in the container"):
            site.upgrade()
        assert other.poll() is None
        other.kill()
    assert site.odoo_calls() == []


def test_odoo_that_does_not_come_back_fails_with_its_address(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HEALTH_SECONDS", 14)
    began = time.monotonic()
    with pytest.raises(StepFailedError, match="did not answer well within 4 s"):
        site.upgrade(health_url="http://127.0.0.1:9/web/health")
    assert time.monotonic() - began < 60


def test_missing_programs_are_named_at_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(PreflightError, match="not on the PATH: bash, curl, docker, git"):
        site.upgrade()


def test_block_says_what_is_not_given(site: Site) -> None:
    facts = {"repo_dir": "/nowhere", "health_url": site.health, "service": "odoo", "compose_file": "other.yml"}
    OdooHost(**facts).save("here", overwrite=True)
    given: dict[str, Any] = {"repo_dir": str(site.checkout), "compose_file": COMPOSE}
    commit = site.commit("second")
    result = odoo_module_upgrade(odoo_db=site.database, modules=["sale"], odoo_host="here", **given)
    assert result["commit"] == commit
    with pytest.raises(PreflightError, match="/nowhere is no git checkout"):
        odoo_module_upgrade(odoo_db=site.database, modules=["sale"], odoo_host="here")


def test_defaults_of_the_room_count_where_nobody_says_anything(site: Site) -> None:
    with pytest.raises(PreflightError, match="/opt/odoo is no git checkout"):
        odoo_module_upgrade(odoo_db=site.database, modules=["sale"])


def test_missing_block_is_named_before_anything_starts(site: Site) -> None:
    with pytest.raises(PreflightError, match="no Odoo Host block 'absent'"):
        site.upgrade(odoo_host="absent")
    assert site.daemon.calls == []


def test_upgrade_over_ssh_runs_every_step_over_there(site: Site, far: Ssh) -> None:
    commit = site.commit("second")
    result = odoo_module_upgrade(odoo_db=site.database, modules=["sale"], odoo_host="far")
    assert result["commit"] == commit == git(site.checkout, "rev-parse", "HEAD")
    assert result["modules"] == {"sale": {"before": "18.0.1", "after": "18.0.2"}}
    assert site.odoo_calls()[0][:4] == ["-d", site.database, "-u", "sale"]
    assert ["compose", "-f", COMPOSE, "restart", "odoo"] in site.daemon.calls
    assert len(far.calls) == 6, "the preflight, and each step that touches the host"
    assert all("deploy@odoo.example" in call and "-oPort=2222" in call for call in far.calls)


def test_host_that_is_not_reached_ends_the_run_before_anything_changes(site: Site, far: Ssh) -> None:
    far.feel("Host key verification failed.")
    before = git(site.checkout, "rev-parse", "HEAD")
    site.commit("second")
    with pytest.raises(PreflightError, match=r"deploy@odoo\.example: reached: Host key verification failed"):
        odoo_module_upgrade(odoo_db=site.database, modules=["sale"], odoo_host="far")
    assert git(site.checkout, "rev-parse", "HEAD") == before


def test_connection_that_ends_ends_odoo_in_the_container_too(
    site: Site, far: Ssh, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.manner.write_text("hangs")
    monkeypatch.setattr(module, "STOP_SECONDS", 0)  # neither limit helps, over there or in the container

    def cut() -> None:
        wait_until(lambda: bool(marked(site.database)))
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):  # it ended meanwhile
                if str(far.state.parent / "ssh") in process.cmdline():
                    process.kill()

    with ending(cut), pytest.raises(StepFailedError):
        odoo_module_upgrade(odoo_db=site.database, modules=["sale"], odoo_host="far")
    wait_until(lambda: marked(site.database) == [], seconds=15)


def test_dry_run_over_ssh_looks_and_changes_nothing(site: Site, far: Ssh) -> None:
    site.commit("second")
    before = git(site.checkout, "rev-parse", "HEAD")
    facts = {"odoo_db": site.database, "modules": ["sale"], "odoo_host": "far", "odoo_service": "web"}
    planned = dry_run(odoo_module_upgrade, facts, settings=load_settings())
    assert planned.error is None
    noted, pulled = planned.steps[1:3]
    place = f"deploy@odoo.example port 2222, service web of {COMPOSE} in {site.checkout}"
    assert noted.command == f"note the versions of the modules, at {place}"
    assert (pulled.name, pulled.environment["SSH_DESTINATION"]) == ("pull_latest", "deploy@odoo.example")
    assert (pulled.environment["REPO"], pulled.environment["ODOO_SERVICE"]) == (str(site.checkout), "web")
    assert len(far.calls) == 1
    assert git(site.checkout, "rev-parse", "HEAD") == before


class ending:  # noqa: N801 - reads as a word
    """Something that happens beside the block, and is over at its end."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._thread = threading.Thread(target=work)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_error: object) -> None:
        self._thread.join(30)
