"""The runbook `odoo_fresh_deploy`: a new droplet with Odoo behind nginx and a certificate."""

from __future__ import annotations

import os
import time
from typing import Any

from blocks.ssh import agent_env
from flows.backup.parameters import OdooDatabase
from flows.engine.active_run import current_run
from flows.engine.preflight import PROGRAMS, missing_programs
from flows.engine.runbook import runbook
from flows.engine.step import StepOutput, action, step
from flows.odoo.droplet import PROVISION, WAIT_FOR_SSH, on_droplet
from flows.odoo.health import wait_healthy
from flows.odoo.parameters import (
    APPROVAL_MINUTES,
    ApprovalMinutes,
    CheckoutFolder,
    ComposeFile,
    Domain,
    DropletName,
    Email,
    GitRef,
    Region,
    RepoUrl,
    Slug,
    SshKeys,
)
from flows.odoo.repositories import approve_deploy, check_allowed
from flows.odoo.site import CHECK_OUT, SETTLED
from flows.odoo.told import deploy_facts
from opsdb.errors import PreflightError
from opsdb.settings import Settings

PROVISION_SECONDS = 300
SSH_SECONDS = 180
FIRST_BOOT_SECONDS = 300
CLONE_SECONDS = 120
FIREWALL_SECONDS = 60
POSTGRESQL_SECONDS = 300
ODOO_SECONDS = 600
NGINX_SECONDS = 120
DNS_SECONDS = 300
SSL_SECONDS = 120
SMOKE_SECONDS = 120
MARGIN_SECONDS = 60  # preflight, and what lies between the steps
STOP_SECONDS = 10  # of a step's time, for what ends by itself, here or on the droplet, before the step does

# A new Ubuntu still installs things when it first answers, and holds apt's lock while it does.
FIRST_BOOT = """\
if command -v cloud-init > /dev/null; then
  cloud-init status --wait || [ $? -eq 2 ]  # 2: done, with warnings
fi
"""
# A clone that is cut off never bears the checkout's name. The scripts are looked for before the first of them runs.
CLONE = f"""\
if [ -e "$REPO/.git" ]; then
  origin=$(git -C "$REPO" config --get remote.origin.url || true)
  if [ "$origin" != "$REPO_URL" ]; then
    echo "$REPO on the droplet is a checkout of $origin, not of $REPO_URL: give another repo_dir" >&2
    exit 65
  fi
elif [ -e "$REPO" ] && [ -n "$(ls -A -- "$REPO")" ]; then
  echo "$REPO on the droplet is neither a git checkout nor empty: give another repo_dir" >&2
  exit 65
else
  rm -rf -- "$REPO.ops-clone"
  git clone --quiet -- "$REPO_URL" "$REPO.ops-clone"
  mv -T -- "$REPO.ops-clone" "$REPO"
fi
{CHECK_OUT}
{SETTLED}
missing=()
for file in scripts/setup-firewall.sh scripts/install-postgresql.sh scripts/deploy/bootstrap_from_tag.sh \\
    scripts/setup-nginx.sh "$COMPOSE_FILE"; do
  [ -f "$file" ] || missing+=("$file")
done
if (( ${{#missing[@]}} )); then
  echo "not in $REPO_URL at $GIT_REF: ${{missing[*]}}" >&2
  exit 65
fi
"""
SCRIPT = 'cd -- "$REPO"\nbash {}\n'
SSL = """\
if ! command -v certbot > /dev/null; then
  echo "certbot is not on the droplet: scripts/setup-nginx.sh should install it" >&2
  exit 69
fi
certbot --nginx -d "$DOMAIN" -m "$EMAIL" --non-interactive --agree-tos --keep-until-expiring
"""
# The authority prefers IPv6, so an address of another host there fails the certificate as well.
DNS = """\
while :; do
  found=$(getent ahostsv4 "$DOMAIN"; getent ahostsv6 "$DOMAIN") || true
  addresses=$(awk '$1 !~ /^::ffff:/ {print $1}' <<< "$found" | sort -u)
  if [ "$addresses" = "$ADDRESS" ]; then break; fi
  if (( SECONDS >= LIMIT )); then
    echo "$DOMAIN leads to ${addresses:-no address} after $LIMIT s: expected an A record of $ADDRESS alone" >&2
    exit 69
  fi
  sleep 2
done
echo "$DOMAIN leads to $ADDRESS"
"""
SMOKE = wait_healthy("https://$DOMAIN/web/health")


@runbook(
    deadline_seconds=PROVISION_SECONDS
    + SSH_SECONDS
    + FIRST_BOOT_SECONDS
    + CLONE_SECONDS
    + FIREWALL_SECONDS
    + POSTGRESQL_SECONDS
    + ODOO_SECONDS
    + NGINX_SECONDS
    + DNS_SECONDS
    + SSL_SECONDS
    + SMOKE_SECONDS
    + MARGIN_SECONDS,
    exclusive="droplet_name",
    explain=deploy_facts,
    version="3",
    subject="${params.domain} · deploy",
)
def odoo_fresh_deploy(
    *,
    droplet_name: DropletName,
    domain: Domain,
    email: Email,
    odoo_db: OdooDatabase,
    ssh_keys: SshKeys,
    git_ref: GitRef = "main",
    repo_url: RepoUrl = "https://github.com/jgtolentino/odoo-ce.git",
    repo_dir: CheckoutFolder = "/opt/odoo",
    compose_file: ComposeFile = "deploy/docker-compose.prod.yml",
    region: Region = "sgp1",
    size: Slug = "s-4vcpu-8gb",
    image: Slug = "ubuntu-22-04-x64",
    approval_minutes: ApprovalMinutes = APPROVAL_MINUTES,
) -> dict[str, Any]:
    r"""Make a droplet at DigitalOcean, and on it Odoo, by the scripts of its repository, with a certificate.

    **When to use it:** for a new host, or to repeat a deployment that failed: a droplet of that name is used when there
    is one. It is not repeated by itself.

    **What it changes:** it makes the droplet, which costs money from then on, and sets up firewall, PostgreSQL, Odoo,
    nginx and a certificate there, with the scripts of the repository.

    **What it needs:** doctl with a token, an SSH key that DigitalOcean knows, and a DNS record that leads to the
    droplet. A repository that OPS_ALLOWED_REPOSITORIES leaves out is refused. With OPS_DEPLOY_APPROVAL, or while no
    repository is listed, it asks before code of the repository reaches the droplet.

    ```
    ops run odoo_fresh_deploy -p droplet_name=odoo-1 -p domain=erp.example.com -p email=ops@example.com \
      -p odoo_db=odoo_prod -p ssh_keys=12345678 --wait
    ```

    Args:
        droplet_name: Name of the droplet.
        domain: Host name under which Odoo is reached. Its A record must lead to the droplet.
        email: Address to which the certificate authority writes.
        odoo_db: Odoo's database on the droplet.
        ssh_keys: Ids or fingerprints of keys at DigitalOcean, the worker's own among them.
        git_ref: Branch, tag or commit to deploy.
        repo_url: Public repository with the code, the compose file and the scripts.
        repo_dir: Absolute path of the checkout on the droplet.
        compose_file: The compose file, relative to the checkout.
        region: Region of the droplet.
        size: Size of a new droplet.
        image: Image of a new droplet.
        approval_minutes: Minutes to wait for an approval, where it asks. Empty for 60.
    """
    started = time.monotonic()
    settings = current_run().settings
    action(
        "preflight",
        lambda: _prepare(repo_url, settings),
        about="check programs, and whether the repository is allowed",
        preflight=True,
    )
    env = {
        "DROPLET_NAME": droplet_name,
        "REGION": region,
        "SIZE": size,
        "IMAGE": image,
        "SSH_KEYS": ",".join(ssh_keys),
        "DOMAIN": domain,
        "EMAIL": email,
        "ODOO_DB": odoo_db,
        "GIT_REF": git_ref,
        "REPO_URL": repo_url,
        "REPO": repo_dir,
        "COMPOSE_FILE": compose_file,
        "NAMES": "DOMAIN EMAIL ODOO_DB GIT_REF REPO_URL REPO COMPOSE_FILE LIMIT",
        **agent_env(),
    }
    token = os.environ.get("DIGITALOCEAN_ACCESS_TOKEN")
    provisioned = step(
        "provision_droplet",
        PROVISION,
        timeout=PROVISION_SECONDS,
        env=env | _limit(PROVISION_SECONDS),
        secrets={"DIGITALOCEAN_ACCESS_TOKEN": token} if token else {},
    )
    droplet_id, address = provisioned.number("droplet"), provisioned.word("droplet")
    env |= {"DROPLET_ID": str(droplet_id), "ADDRESS": address}

    def run_step(name: str, command: str, seconds: int) -> StepOutput:
        return step(name, command, timeout=seconds, env=env | _limit(seconds))

    run_step("wait_ssh", WAIT_FOR_SSH, SSH_SECONDS)
    run_step("wait_first_boot", on_droplet(FIRST_BOOT), FIRST_BOOT_SECONDS)
    question = f"deploy {git_ref} of {repo_url} as https://{domain}, to droplet {droplet_name} at {address}?"
    approve_deploy(question, repo_url, settings, minutes=approval_minutes)
    cloned = run_step("clone_repo", on_droplet(CLONE), CLONE_SECONDS)
    run_step("configure_firewall", on_droplet(SCRIPT.format("scripts/setup-firewall.sh")), FIREWALL_SECONDS)
    run_step("install_postgresql", on_droplet(SCRIPT.format("scripts/install-postgresql.sh")), POSTGRESQL_SECONDS)
    run_step("deploy_odoo", on_droplet(SCRIPT.format("scripts/deploy/bootstrap_from_tag.sh")), ODOO_SECONDS)
    run_step("configure_nginx", on_droplet(SCRIPT.format("scripts/setup-nginx.sh")), NGINX_SECONDS)
    run_step("wait_dns", DNS, DNS_SECONDS)
    run_step("configure_ssl", on_droplet(SSL), SSL_SECONDS)
    run_step("smoke_test", SMOKE, SMOKE_SECONDS)
    return {
        "droplet_id": droplet_id,
        "address": address,
        "url": f"https://{domain}",
        "commit": cloned.word("after"),
        "duration_seconds": round(time.monotonic() - started, 3),
    }


def _limit(seconds: int) -> dict[str, str]:
    return {"LIMIT": str(seconds - STOP_SECONDS)}


def _prepare(repo_url: str, settings: Settings) -> None:
    """Raise PreflightError unless all is there and the repository is allowed."""
    check_allowed(repo_url, settings)
    if missing := missing_programs(*PROGRAMS["odoo_fresh_deploy"]):
        raise PreflightError(f"not on the PATH: {', '.join(missing)}")
