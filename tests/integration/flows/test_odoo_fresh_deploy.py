"""The deployment against a real git, bash and OpenSSH. DigitalOcean, DNS, curl and certbot are stand-ins."""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import pytest
from prefect import get_client
from prefect.client.schemas.sorting import LogSort
from prefect.logging.handlers import APILogHandler

from flows import odoo_fresh_deploy as module
from flows.engine.dry_run import DryRun, dry_run
from flows.odoo_fresh_deploy import odoo_fresh_deploy
from opsdb.errors import PreflightError, StepFailedError, UsageError
from opsdb.settings import load_settings
from tests.support.children import free_port
from tests.support.programs import needs_root
from tests.support.ssh_server import SshServer, ssh_server
from tests.support.stand_ins.digitalocean import DigitalOcean, digitalocean
from tests.support.waiting import wait_for

pytestmark = needs_root
URL = "https://git.example/odoo.git"
SCRIPTS = ["setup-firewall", "install-postgresql", "deploy/bootstrap_from_tag", "setup-nginx"]
NOTE = """\
cat
echo "{name}|$PWD|$GIT_REF|$ODOO_DB|$COMPOSE_FILE|${{DIGITALOCEAN_ACCESS_TOKEN-none}}" >> "$LEDGER"
"""
CERTBOT = """\
#!/bin/bash
echo "certbot|$*" >> "$LEDGER"
"""
NO_CERTIFICATE = (
    CERTBOT
    + """\
echo "An unexpected error occurred:" >&2
echo "too many certificates (5) already issued for this exact set of domains in the last 168 hours: shop.example" >&2
exit 1
"""
)
HANG = """\
echo hangs >> "$LEDGER"
sleep 300 &
sleep 300
"""


@dataclass
class Site:
    """A DigitalOcean, the repository, and what ran on the droplet."""

    ocean: DigitalOcean
    droplet: SshServer
    origin: Path
    repo: Path
    programs: Path
    ledger: Path

    def deploy(self, **changes: Any) -> dict[str, Any]:
        result: dict[str, Any] = odoo_fresh_deploy(odoo_db="odoo_prod", **(self.facts() | changes))
        return result

    def facts(self) -> dict[str, Any]:
        """The parameters, but for the database."""
        return {
            "droplet_name": "odoo-prod",
            "domain": "shop.example",
            "email": "ops@shop.example",
            "ssh_keys": ["12", "34"],
            "repo_url": URL,
            "repo_dir": str(self.repo),
        }

    def script(self, name: str, text: str) -> None:
        """Make this the text of a script of the repository, or of the droplet's certbot."""
        if name == "certbot":
            (self.programs / name).write_text(text)
            return
        (self.origin / f"scripts/{name}.sh").write_text(text)
        git(self.origin, "commit", "-qam", "another text")

    def creations(self) -> int:
        """How often a droplet was made."""
        return len([call for call in self.ocean.calls("doctl") if call[2] == "create"])

    def ran(self) -> list[str]:
        return self.ledger.read_text().splitlines() if self.ledger.exists() else []


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@localhost", "-c", "init.defaultBranch=main"]
    done = subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    local, programs, origin = (tmp_path / name for name in ("local", "far", "origin"))
    for folder in (local, programs, origin):
        folder.mkdir()
    git(origin, "init", "-q")
    for name in SCRIPTS:
        script = origin / f"scripts/{name}.sh"
        script.parent.mkdir(parents=True, exist_ok=True)
        script.write_text(NOTE.format(name=name))
    (origin / "deploy").mkdir()
    (origin / "deploy/docker-compose.prod.yml").write_text("services: {}\n")
    git(origin, "add", "-A")
    git(origin, "commit", "-qm", "first")
    certbot = programs / "certbot"
    certbot.write_text(CERTBOT)
    certbot.chmod(0o755)
    ledger = tmp_path / "ran"
    far_side = {
        "PATH": f"{programs}:/usr/bin:/bin",
        "LEDGER": str(ledger),
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{origin}.insteadOf",
        "GIT_CONFIG_VALUE_0": URL,
    }
    ocean = digitalocean(local)
    monkeypatch.setenv("PATH", f"{local}:{os.environ['PATH']}")
    monkeypatch.setenv("OPS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OPS_ALLOWED_REPOSITORIES", URL)
    monkeypatch.setenv("OPS_DEPLOY_APPROVAL", "false")
    monkeypatch.delenv("DIGITALOCEAN_ACCESS_TOKEN", raising=False)
    with ssh_server(tmp_path / "sshd", free_port(), client=local, environment=far_side) as droplet:
        droplet.known_hosts.write_text("")
        yield Site(ocean, droplet, origin, tmp_path / "odoo", programs, ledger)


def test_token_that_doctl_shows_is_seen_nowhere(site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    token = "dop_v1_0a/b+c=d&e'f" + "0123456789abcdef" * 3
    monkeypatch.setenv("DIGITALOCEAN_ACCESS_TOKEN", token)
    site.ocean.know(token=token, talks="yes")
    with pytest.raises(StepFailedError, match=r"the token \*\*\* was refused") as caught:
        site.deploy()
    APILogHandler().flush()
    with get_client(sync_client=True) as client:
        lines = [line.message for line in client.read_logs(sort=LogSort.TIMESTAMP_DESC, limit=200)]
    files = [path.read_text() for path in (tmp_path / "home").rglob("*") if path.is_file()]
    told = "\n".join([str(caught.value), *traceback.format_exception(caught.value), *lines, *files])
    assert any("> Authorization: ***" in line for line in lines)
    assert any("> Authorization: ***" in text for text in files)
    told += (site.ocean.state / "arguments").read_bytes().decode(errors="replace")
    for spelling in (token, base64.b64encode(token.encode()).decode(), quote(token, safe=""), token[:20], token[-20:]):
        assert spelling not in told


def plan(site: Site) -> DryRun:
    return dry_run(odoo_fresh_deploy, {**site.facts(), "odoo_db": "odoo_prod"}, settings=load_settings())


def test_dry_run_tells_all_steps_and_asks_nobody(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIGITALOCEAN_ACCESS_TOKEN", "dop_v1_secret")
    planned = plan(site)
    assert planned.error is None
    assert [one.name for one in planned.steps][:3] == ["preflight", "provision_droplet", "wait_ssh"]
    assert planned.steps[-1].name == "smoke_test"
    assert planned.steps[1].environment["DIGITALOCEAN_ACCESS_TOKEN"] == "***"
    assert "dop_v1_secret" not in repr(planned)
    assert (site.ocean.calls("doctl"), site.droplet.logins) == ([], 0)


@pytest.mark.parametrize(
    ("allowed", "asks", "question"),
    [
        ("", "false", "OPS_ALLOWED_REPOSITORIES=https://git.example/odoo.git"),
        ("", "true", "OPS_ALLOWED_REPOSITORIES=https://git.example/odoo.git"),
        (URL, "true", "deploy main of https://git.example/odoo.git"),
        (URL, "false", None),
    ],
)
def test_deployment_asks_before_the_clone_unless_the_repository_is_allowed_and_the_room_asks_nobody(
    site: Site, monkeypatch: pytest.MonkeyPatch, allowed: str, asks: str, question: str | None
) -> None:
    monkeypatch.setenv("OPS_ALLOWED_REPOSITORIES", allowed)
    monkeypatch.setenv("OPS_DEPLOY_APPROVAL", asks)
    names = [one.name for one in plan(site).steps]
    assert ("approve_deploy" in names) == (question is not None)
    if question is not None:
        at = names.index("approve_deploy")
        assert names[at + 1] == "clone_repo"
        assert question in plan(site).steps[at].command


@pytest.mark.usefixtures("prefect_room")
def test_deployment_that_has_to_ask_runs_nothing_of_the_repository_first_whatever_the_starter_says(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPS_ALLOWED_REPOSITORIES")
    with pytest.raises(UsageError, match="approve_deploy: a run in no lane cannot wait"):
        site.deploy(approval_minutes=0)
    assert (site.ran(), site.repo.exists()) == ([], False)


@pytest.mark.usefixtures("prefect_room")
@pytest.mark.parametrize("url", ["https://git.example/evil.git", "https://git.example.evil.example/odoo.git"])
def test_repository_that_is_not_allowed_is_refused_before_a_droplet_is_made(site: Site, url: str) -> None:
    with pytest.raises(PreflightError, match=r"is not an allowed repository.*OPS_ALLOWED_REPOSITORIES"):
        site.deploy(repo_url=url)
    assert (site.ocean.calls("doctl"), site.droplet.logins) == ([], 0)


@pytest.mark.usefixtures("prefect_room")
def test_deployment_runs_everything_on_the_droplet_in_order(
    site: Site, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DIGITALOCEAN_ACCESS_TOKEN", "dop_v1_secret")
    site.ocean.know(token="dop_v1_secret", unhealthy=1)
    result = site.deploy()
    assert (result["droplet_id"], result["address"]) == (100, "203.0.113.7")
    assert result["commit"] == git(site.origin, "rev-parse", "HEAD")
    facts = f"{site.repo}|main|odoo_prod|deploy/docker-compose.prod.yml|none"
    assert site.ran() == [f"{name}|{facts}" for name in SCRIPTS] + [
        "certbot|--nginx -d shop.example -m ops@shop.example --non-interactive --agree-tos --keep-until-expiring"
    ]
    [created] = [call for call in site.ocean.calls("doctl") if call[2] == "create"]
    assert created[created.index("--ssh-keys") + 1] == "12,34"
    assert site.droplet.logins == 8
    assert [line.split()[0] for line in site.droplet.known_hosts.read_text().splitlines()] == ["droplet-100"]
    assert site.droplet.programs() == []
    asked = [call[-1].partition("?")[0].rpartition("/")[2] for call in site.ocean.calls("curl")]
    assert asked == ["health", "health", "login"]
    assert "dop_v1_secret" not in "".join(capfd.readouterr())

    (site.origin / "new").write_text("")
    git(site.origin, "add", "-A")
    git(site.origin, "commit", "-qm", "second")
    again = site.deploy()
    assert again["droplet_id"] == 100
    assert again["commit"] == git(site.origin, "rev-parse", "HEAD") != result["commit"]
    assert len([call for call in site.ocean.calls("doctl") if call[2] == "create"]) == 1


@pytest.mark.usefixtures("prefect_room")
def test_droplet_whose_creation_was_cut_off_is_found_again(site: Site) -> None:
    site.ocean.know(dies="yes")
    with pytest.raises(StepFailedError):
        site.deploy()
    (site.ocean.state / "dies").unlink()
    assert site.deploy()["droplet_id"] == 100


@pytest.mark.usefixtures("prefect_room")
@pytest.mark.parametrize(
    ("droplets", "words"),
    [
        ([["1", "odoo-prod", "sgp1", "active", "203.0.113.7"]] * 2, "2 droplets are named odoo-prod"),
        ([["1", "odoo-prod", "nyc3", "active", "203.0.113.7"]], "is in nyc3, not in sgp1"),
    ],
    ids=["two", "elsewhere"],
)
def test_droplet_that_is_not_the_one_meant_is_refused(site: Site, droplets: list[list[str]], words: str) -> None:
    site.ocean.know(droplets=droplets)
    with pytest.raises(StepFailedError, match=words):
        site.deploy()
    assert site.droplet.logins == 0


@pytest.mark.gate
@pytest.mark.usefixtures("prefect_room")
def test_folder_that_is_something_else_is_refused_and_left(site: Site) -> None:
    site.repo.mkdir()
    (site.repo / "precious").write_text("x")
    with pytest.raises(StepFailedError, match="neither a git checkout nor empty"):
        site.deploy()
    assert [path.name for path in site.repo.iterdir()] == ["precious"]
    (site.repo / "precious").unlink()
    git(site.repo, "init", "-q")
    git(site.repo, "remote", "add", "origin", "https://git.example/other.git")
    with pytest.raises(StepFailedError, match=r"is a checkout of https://git\.example/other\.git"):
        site.deploy()
    assert site.ran() == []


@pytest.mark.usefixtures("prefect_room")
def test_missing_scripts_are_all_named_before_the_first_runs(site: Site) -> None:
    git(site.origin, "rm", "-q", "scripts/setup-nginx.sh", "deploy/docker-compose.prod.yml")
    git(site.origin, "commit", "-qm", "less")
    with pytest.raises(StepFailedError, match=r"scripts/setup-nginx\.sh deploy/docker-compose\.prod\.yml"):
        site.deploy()
    assert site.ran() == []


@pytest.mark.gate
@pytest.mark.usefixtures("prefect_room")
def test_certificate_is_not_asked_for_while_the_domain_leads_elsewhere(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.ocean.know(address="198.51.100.1")
    monkeypatch.setattr(module, "DNS_SECONDS", 13)
    with pytest.raises(StepFailedError, match=r"leads to 198\.51\.100\.1 after 3 s"):
        site.deploy()
    assert not any(line.startswith("certbot") for line in site.ran())


@pytest.mark.usefixtures("prefect_room")
def test_script_that_fails_on_the_droplet_ends_the_deployment(site: Site) -> None:
    (site.origin / "scripts/install-postgresql.sh").write_text("exit 7\n")
    git(site.origin, "commit", "-qam", "broken")
    with pytest.raises(StepFailedError) as failed:
        site.deploy()
    assert failed.value.exit_code == 7
    assert [line.split("|")[0] for line in site.ran()] == ["setup-firewall"]


@pytest.mark.usefixtures("prefect_room")
def test_missing_programs_are_all_named(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(PreflightError, match="bash, awk, curl, doctl, getent, ssh"):
        site.deploy()


@pytest.mark.gate
@pytest.mark.usefixtures("prefect_room")
def test_certificate_that_the_authority_refuses_ends_the_deployment_with_its_words_and_keeps_what_was_done(
    site: Site,
) -> None:
    site.script("certbot", NO_CERTIFICATE)
    with pytest.raises(StepFailedError, match=r"configure_ssl failed.*\n[^$]*too many certificates \(5\)") as failed:
        site.deploy()
    assert failed.value.exit_code == 1
    assert [line.split("|")[0] for line in site.ran()] == [*SCRIPTS, "certbot"]
    assert (site.repo / ".git").is_dir()
    assert site.ocean.calls("curl") == []
    site.script("certbot", CERTBOT)
    assert site.deploy()["droplet_id"] == 100
    assert site.creations() == 1


@pytest.mark.gate
@pytest.mark.usefixtures("prefect_room")
@pytest.mark.parametrize(
    ("place", "end"),
    [("certbot", "cancelled"), ("certbot", "cut off"), ("setup-nginx", "cancelled")],
)
def test_deployment_that_is_ended_half_way_leaves_nothing_running_and_another_one_works(
    site: Site, start_flow: Callable[..., psutil.Popen], tmp_path: Path, place: str, end: str
) -> None:
    site.script(place, (CERTBOT if place == "certbot" else "") + HANG)
    run = start_flow("odoo_prod", "odoo_fresh_deploy", **site.facts())
    wait_for(lambda: "hangs" in site.ran(), seconds=120)
    if end == "cancelled":
        run.send_signal(signal.SIGTERM)
    else:
        for connection in site.droplet.connections():
            connection.kill()
    assert run.wait(60) != 0
    log = (tmp_path / "flow.log").read_text()
    assert ("termination signal" if end == "cancelled" else "step configure_ssl failed: exit code 255") in log, log
    wait_for(lambda: site.droplet.programs() == [], seconds=60)
    assert site.ocean.calls("curl") == []
    site.script(place, CERTBOT if place == "certbot" else NOTE.format(name=place))
    assert site.deploy()["droplet_id"] == 100
    assert site.creations() == 1


@pytest.mark.gate
@pytest.mark.usefixtures("prefect_room")
def test_odoo_that_never_answers_fails_the_smoke_test_at_its_limit_with_what_it_said(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.ocean.know(unhealthy=10**6)
    monkeypatch.setattr(module, "SMOKE_SECONDS", 13)
    with pytest.raises(
        StepFailedError, match=r"shop\.example/web/health\?db_server_status=1 did not answer .* 3 s: .* 502"
    ):
        site.deploy()
    assert site.ran()[-1].startswith("certbot")


@pytest.mark.gate
@pytest.mark.usefixtures("prefect_room")
def test_tag_that_was_moved_since_the_first_deployment_is_deployed_where_it_is_now(site: Site) -> None:
    git(site.origin, "tag", "stable")
    site.deploy(git_ref="stable")
    (site.origin / "new").write_text("")
    git(site.origin, "add", "-A")
    git(site.origin, "commit", "-qm", "second")
    git(site.origin, "tag", "--force", "stable")
    assert site.deploy(git_ref="stable")["commit"] == git(site.origin, "rev-parse", "HEAD")
