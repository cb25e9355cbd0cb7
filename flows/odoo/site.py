"""The Odoo that a runbook works on: where it is, its code and its health."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any, cast

import httpx

from blocks.odoo_host import OdooHost, check_code
from blocks.ssh import KNOWN_HOSTS_ONLY, agent_env
from flows.odoo.remote import over_ssh
from opsdb.errors import PreflightError

_OVER_SSH = f'{KNOWN_HOSTS_ONLY} -oPort="$SSH_PORT" -- "$SSH_DESTINATION"'
_OWN_NAMES = ("", "localhost", "127.0.0.1")
_OWN_CODE = Path(__file__).resolve().parents[2]

# A branch is the one of origin and not a local one of that name. The commit is checked out by itself: no branch of the
# checkout is moved, and nothing that somebody committed there is lost. A tag that was moved at origin is moved here as
# well: without --force the whole fetch fails. It is not --quiet, which hides what was moved or refused.
CHECK_OUT = """\
cd -- "$REPO"
if dirty=$(git status --porcelain --untracked-files=no) && [ -n "$dirty" ]; then
  echo "files in $REPO were changed by hand: commit or stash them first" >&2
  echo "$dirty" >&2
  exit 65
fi
echo "before: $(git rev-parse HEAD)"
git fetch --force --tags --prune origin
for name in "refs/remotes/origin/$GIT_REF" "refs/tags/$GIT_REF" "$GIT_REF"; do
  if commit=$(git rev-parse --quiet --verify --end-of-options "$name^{commit}"); then break; fi
done
if [ -z "$commit" ]; then
  echo "origin has no branch, tag or commit $GIT_REF" >&2
  exit 65
fi
git -c advice.detachedHead=false checkout --quiet --detach "$commit" --
echo "after: $(git rev-parse HEAD)"
git log -1 --format='%h %s (%cs)'
"""


def find_host(block: str | None, **asked: str) -> OdooHost:
    """The host that the block describes, or the worker's own; what was asked for by its field's name goes first.

    What is empty was not asked for.

    Raises PreflightError when there is no such block.
    """
    stored: dict[str, Any] = {}
    if block is not None:
        try:
            loaded = cast("OdooHost", OdooHost.load(block))
        except ValueError as error:
            reason = str(error).splitlines()[0]
            raise PreflightError(
                f"odoo_host: no Odoo Host block {block!r} that is in order: {reason}. "
                f"`ops doctor --block odoo-host/{block}` says more"
            ) from None
        except httpx.HTTPError as error:
            raise PreflightError(f"odoo_host: Prefect does not give the block {block!r} out: {error}") from error
        stored = loaded.model_dump(include=set(OdooHost.model_fields))
    return OdooHost(**stored | {name: value for name, value in asked.items() if value})


def host_resource(host: OdooHost) -> str:
    """What one upgrade at a time may hold: the machine on which Odoo runs, by the name under which it is reached.

    Neither checkout nor service would do. Docker Compose names a project after the compose file's folder, so the
    containers of two checkouts are the same ones unless their files say otherwise, and two files can share a checkout.
    """
    name = host.ssh_destination.rpartition("@")[2].lower().rstrip(".")
    if name in _OWN_NAMES:
        name = socket.gethostname().lower()
    return f"odoo_host:{name}"


def check_checkout(host: OdooHost) -> None:
    """Raise PreflightError unless the host is reached and the checkout and its programs are there."""
    if not host.ssh_destination:
        if _OWN_CODE.is_relative_to(Path(host.repo_dir).resolve()):
            raise PreflightError(f"repo_dir: {host.repo_dir} holds the control room's own code: name Odoo's checkout")
        if not (Path(host.repo_dir) / ".git").exists():
            raise PreflightError(f"repo_dir: {host.repo_dir} is no git checkout; odoo_fresh_deploy makes one")
        return
    if wrong := [f"{check.subject}: {check.found}; {check.advice}" for check in check_code(host) if not check.ok]:
        raise PreflightError(f"odoo_host: {host.ssh_destination}: {'. '.join(wrong)}")


def on_host(host: OdooHost, script: str) -> str:
    """The shell text that runs a constant script on the host, with the environment of `host_env`."""
    return over_ssh(script, to=_OVER_SSH) if host.ssh_destination else script


def host_env(host: OdooHost, values: dict[str, str]) -> dict[str, str]:
    """The environment of such a script: the values, where the host is, and what of it that host is given."""
    env = {
        **values,
        "REPO": host.repo_dir,
        "COMPOSE_FILE": host.compose_file,
        "ODOO_SERVICE": host.service,
        "HEALTH_URL": host.health_url,
    }
    if not host.ssh_destination:
        return env
    return {
        **env,
        "NAMES": " ".join(env),
        "SSH_DESTINATION": host.ssh_destination,
        "SSH_PORT": str(host.ssh_port),
        **agent_env(),
    }


def wait_healthy(url: str) -> str:
    """The shell text that waits until the address answers with success, at most `LIMIT` s.

    It is constant words and variables.
    """
    return f"""\
until curl --fail --silent --show-error --max-time 5 --output /dev/null -- "{url}"; do
  if (( SECONDS >= LIMIT )); then
    echo "{url} did not answer well within $LIMIT s" >&2
    exit 69
  fi
  sleep 2
done
echo "healthy after $SECONDS s"
"""
