"""The deployment against a real git and bash. DigitalOcean, ssh, DNS, curl and certbot are stand-ins."""

from __future__ import annotations

import base64
import os
import subprocess
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from prefect import get_client
from prefect.client.schemas.sorting import LogSort
from prefect.logging.handlers import APILogHandler

from flows import odoo_fresh_deploy as module
from flows.droplet import on_droplet
from flows.dry_run import dry_run
from flows.odoo_fresh_deploy import odoo_fresh_deploy
from opsdb.errors import PreflightError, StepFailedError
from opsdb.settings import load_settings
from tests.stand_ins.digitalocean import DigitalOcean, digitalocean

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


@dataclass
class Site:
    """A DigitalOcean, the repository, and what ran on the droplet."""

    ocean: DigitalOcean
    origin: Path
    repo: Path
    programs: Path
    ledger: Path

    def deploy(self, **changes: Any) -> dict[str, Any]:
        facts: dict[str, Any] = {
            "droplet_name": "odoo-prod",
            "domain": "shop.example",
            "email": "ops@shop.example",
            "odoo_db": "odoo_prod",
            "ssh_keys": ["12", "34"],
            "repo_url": URL,
            "repo_dir": str(self.repo),
            "approval_minutes": 0,
        }
        result: dict[str, Any] = odoo_fresh_deploy(**(facts | changes))
        return result

    def ran(self) -> list[str]:
        return self.ledger.read_text().splitlines() if self.ledger.exists() else []


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@localhost", "-c", "init.defaultBranch=main"]
    done = subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
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
    ocean = digitalocean(local, far_side=far_side)
    monkeypatch.setenv("PATH", f"{local}:{os.environ['PATH']}")
    monkeypatch.setenv("OPS_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DIGITALOCEAN_ACCESS_TOKEN", raising=False)
    return Site(ocean, origin, tmp_path / "opt odoo", programs, ledger)


@pytest.fixture
def plain(site: Site, tmp_path: Path) -> Site:
    """The same, with a folder name that the flow's parameters allow."""
    site.repo = tmp_path / "odoo"
    return site


def test_token_that_doctl_shows_is_seen_nowhere(plain: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    token = "dop_v1_0a/b+c=d&e'f" + "0123456789abcdef" * 3
    monkeypatch.setenv("DIGITALOCEAN_ACCESS_TOKEN", token)
    plain.ocean.know(token=token, talks="yes")
    with pytest.raises(StepFailedError, match=r"the token \*\*\* was refused") as caught:
        plain.deploy()
    APILogHandler().flush()
    with get_client(sync_client=True) as client:
        lines = [line.message for line in client.read_logs(sort=LogSort.TIMESTAMP_DESC, limit=200)]
    files = [path.read_text() for path in (tmp_path / "home").rglob("*") if path.is_file()]
    told = "\n".join([str(caught.value), *traceback.format_exception(caught.value), *lines, *files])
    assert any("> Authorization: ***" in line for line in lines)
    assert any("> Authorization: ***" in text for text in files)
    told += (plain.ocean.state / "arguments").read_bytes().decode(errors="replace")
    for spelling in (token, base64.b64encode(token.encode()).decode(), quote(token, safe=""), token[:20], token[-20:]):
        assert spelling not in told


def test_dry_run_tells_all_steps_and_asks_nobody(plain: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIGITALOCEAN_ACCESS_TOKEN", "dop_v1_secret")
    facts = {"droplet_name": "odoo-prod", "domain": "shop.example", "email": "ops@shop.example"}
    planned = dry_run(
        odoo_fresh_deploy, {**facts, "odoo_db": "odoo_prod", "ssh_keys": ["12"]}, settings=load_settings()
    )
    assert planned.error is None
    assert [one.name for one in planned.steps][:3] == ["preflight", "provision_droplet", "wait_ssh"]
    assert planned.steps[-1].name == "smoke_test"
    assert planned.steps[1].environment["DIGITALOCEAN_ACCESS_TOKEN"] == "***"
    assert "dop_v1_secret" not in repr(planned)
    assert (plain.ocean.calls("doctl"), plain.ocean.calls("ssh")) == ([], [])


@pytest.mark.usefixtures("prefect_room")
def test_deployment_runs_everything_on_the_droplet_in_order(
    plain: Site, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DIGITALOCEAN_ACCESS_TOKEN", "dop_v1_secret")
    plain.ocean.know(token="dop_v1_secret")
    result = plain.deploy()
    assert (result["droplet_id"], result["address"]) == (100, "203.0.113.7")
    assert result["commit"] == git(plain.origin, "rev-parse", "HEAD")
    facts = f"{plain.repo}|main|odoo_prod|deploy/docker-compose.prod.yml|none"
    assert plain.ran() == [f"{name}|{facts}" for name in SCRIPTS] + [
        "certbot|--nginx -d shop.example -m ops@shop.example --non-interactive --agree-tos --keep-until-expiring"
    ]
    [created] = [call for call in plain.ocean.calls("doctl") if call[2] == "create"]
    assert created[created.index("--ssh-keys") + 1] == "12,34"
    assert all("-oHostKeyAlias=droplet-100" in call for call in plain.ocean.calls("ssh"))
    assert len(plain.ocean.calls("curl")) == 2
    assert "dop_v1_secret" not in "".join(capfd.readouterr())

    (plain.origin / "new").write_text("")
    git(plain.origin, "add", "-A")
    git(plain.origin, "commit", "-qm", "second")
    again = plain.deploy()
    assert again["droplet_id"] == 100
    assert again["commit"] == git(plain.origin, "rev-parse", "HEAD") != result["commit"]
    assert len([call for call in plain.ocean.calls("doctl") if call[2] == "create"]) == 1


@pytest.mark.usefixtures("prefect_room")
def test_droplet_whose_creation_was_cut_off_is_found_again(plain: Site) -> None:
    plain.ocean.know(dies="yes")
    with pytest.raises(StepFailedError):
        plain.deploy()
    (plain.ocean.state / "dies").unlink()
    assert plain.deploy()["droplet_id"] == 100


@pytest.mark.usefixtures("prefect_room")
@pytest.mark.parametrize(
    ("droplets", "words"),
    [
        ([["1", "odoo-prod", "sgp1", "active", "203.0.113.7"]] * 2, "2 droplets are named odoo-prod"),
        ([["1", "odoo-prod", "nyc3", "active", "203.0.113.7"]], "is in nyc3, not in sgp1"),
    ],
    ids=["two", "elsewhere"],
)
def test_droplet_that_is_not_the_one_meant_is_refused(plain: Site, droplets: list[list[str]], words: str) -> None:
    plain.ocean.know(droplets=droplets)
    with pytest.raises(StepFailedError, match=words):
        plain.deploy()
    assert plain.ocean.calls("ssh") == []


@pytest.mark.usefixtures("prefect_room")
def test_folder_that_is_something_else_is_refused_and_left(plain: Site) -> None:
    plain.repo.mkdir()
    (plain.repo / "precious").write_text("x")
    with pytest.raises(StepFailedError, match="no git checkout and not empty"):
        plain.deploy()
    assert [path.name for path in plain.repo.iterdir()] == ["precious"]
    (plain.repo / "precious").unlink()
    git(plain.repo, "init", "-q")
    git(plain.repo, "remote", "add", "origin", "https://git.example/other.git")
    with pytest.raises(StepFailedError, match=r"is a checkout of https://git\.example/other\.git"):
        plain.deploy()
    assert plain.ran() == []


@pytest.mark.usefixtures("prefect_room")
def test_missing_scripts_are_all_named_before_the_first_runs(plain: Site) -> None:
    git(plain.origin, "rm", "-q", "scripts/setup-nginx.sh", "deploy/docker-compose.prod.yml")
    git(plain.origin, "commit", "-qm", "less")
    with pytest.raises(StepFailedError, match=r"scripts/setup-nginx\.sh deploy/docker-compose\.prod\.yml"):
        plain.deploy()
    assert plain.ran() == []


@pytest.mark.usefixtures("prefect_room")
def test_certificate_is_not_asked_for_while_the_domain_leads_elsewhere(
    plain: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain.ocean.know(address="198.51.100.1")
    monkeypatch.setattr(module, "DNS_SECONDS", 13)
    with pytest.raises(StepFailedError, match=r"leads to 198\.51\.100\.1 after 3 s"):
        plain.deploy()
    assert not any(line.startswith("certbot") for line in plain.ran())


@pytest.mark.usefixtures("prefect_room")
def test_script_that_fails_on_the_droplet_ends_the_deployment(plain: Site) -> None:
    (plain.origin / "scripts/install-postgresql.sh").write_text("exit 7\n")
    git(plain.origin, "commit", "-qam", "broken")
    with pytest.raises(StepFailedError) as failed:
        plain.deploy()
    assert failed.value.exit_code == 7
    assert [line.split("|")[0] for line in plain.ran()] == ["setup-firewall"]


@pytest.mark.usefixtures("prefect_room")
def test_missing_programs_are_all_named(plain: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(PreflightError, match="bash, awk, curl, doctl, getent, ssh"):
        plain.deploy()


def droplet_shell(site: Site, script: str, **values: str) -> subprocess.Popen[str]:
    site.ocean.know(refusals=0)
    env = {"DROPLET_ID": "1", "ADDRESS": "203.0.113.7", "NAMES": " ".join(values), "PATH": os.environ["PATH"]}
    return subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", on_droplet(script)],
        env=env | values,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_values_reach_the_droplet_as_they_are(site: Site, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    hostile = f"a'b\"c\n$(touch {canary}) `touch {canary}`; touch {canary} \\ ~ * é -x\nFAR_SIDE\nAFTER\n"
    process = droplet_shell(site, 'printf "%s." "$VALUE"', VALUE=hostile, LIMIT="20")
    assert process.communicate(timeout=20)[0] == f"{hostile}."
    assert process.returncode == 0
    assert not canary.exists()


@pytest.mark.parametrize("end", ["connection", "limit"])
def test_script_on_the_droplet_does_not_outlive(site: Site, tmp_path: Path, end: str) -> None:
    pid_file = tmp_path / "pid"
    limit = "2" if end == "limit" else "60"
    script = 'echo "$BASHPID" > "$FILE"\nsleep 50\necho never'
    process = droplet_shell(site, script, FILE=str(pid_file), LIMIT=limit)
    deadline = time.monotonic() + 10
    while not (pid_file.exists() and pid_file.read_text().strip()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    pid = int(pid_file.read_text())
    if end == "connection":
        os.killpg(process.pid, 9)  # the far side is in another session
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline + 5, "the script goes on without its connection"
        time.sleep(0.05)
    process.wait(5)
    assert process.returncode != 0
