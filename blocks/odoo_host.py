"""The block `OdooHost`: an Odoo in Docker Compose, how its host is reached, and whether it is as the block says.

One script looks at all of it, on the host itself.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from collections.abc import Callable, Mapping

from prefect.blocks.core import Block
from pydantic import Field, HttpUrl

from blocks.check import Check
from blocks.checkout import UNCLEAN
from blocks.fields import CheckoutFolder, ComposeFile, ComposeService, HealthUrl, SshDestination, SshPort
from blocks.inherited import inherited
from blocks.ssh import KNOWN_HOSTS_ONLY, SSH_OPTIONS, agent_env

Judge = Callable[["OdooHost", str, str], Check]
"""Says what the state and the detail of a line mean."""

HOST_SECONDS = 12.0
"""Longer than what the parts of the script may take together: 5 s to connect, twice 3 s for Docker."""
STATUS_SECONDS = 60
"""What `git status` may take beyond that before an upgrade: it reads a large checkout from a slow disk when nothing of
it is cached."""
CHECK_STATUS_SECONDS = 12
"""The same in `ops doctor`, where somebody waits."""

# Each line is a name, and what is wrong or what was seen, separated by a tab. Nothing is changed.
CODE = f"""\
{UNCLEAN}
say() {{ printf '%s\\t%s\\t%s\\n' "$1" "$2" "$(tr -s '[:space:]' ' ' <<< "$3")"; }}
missing=
for program in bash git docker curl; do command -v "$program" > /dev/null || missing+=" $program"; done
if [ -n "$missing" ]; then say programs wrong "not on the PATH:$missing"; else say programs ok ""; fi
if ! [ -e "$REPO/.git" ]; then
  say checkout wrong "no git checkout"
elif ! said=$(git -C "$REPO" log -1 --format='%h of %cs' 2>&1); then
  say checkout wrong "$said"
else
  code=0 status_until=$((SECONDS + STATUS_SECONDS))
  changed=$(cd -- "$REPO" && unclean 2> /dev/null) || code=$?
  if [ "$code" -eq 124 ]; then
    say checkout slow "$STATUS_SECONDS"
  elif [ "$code" -ne 0 ]; then
    say checkout wrong "git status fails there: $(cd -- "$REPO" && unclean 2>&1 > /dev/null | tail -n 1)"
  elif [ -n "$changed" ]; then
    say checkout changed "$changed"
  else
    say checkout ok "$said"
  fi
fi
"""
# Odoo is asked while Docker is.
RUNNING = """\
asked=$HEALTH_URL
case "$asked" in
  */web/health | */web/health/) asked="${asked%/}?db_server_status=1" ;;  # without it, it is well with PostgreSQL away
esac
exec {health}< <(curl --fail --silent --show-error --max-time 5 --output /dev/null -- "$asked" 2>&1 && echo well)
if ! cd -- "$REPO" 2> /dev/null || ! [ -f "$COMPOSE_FILE" ]; then
  say service wrong "no compose file $COMPOSE_FILE"
elif ! said=$(timeout 3 docker compose -f "$COMPOSE_FILE" config --services < /dev/null 2>&1); then
  say service wrong "$said"
elif ! grep -Fqx -- "$SERVICE" <<< "$said"; then
  say service unknown "$said"
elif ! said=$(timeout 3 docker compose -f "$COMPOSE_FILE" ps --status running --services < /dev/null 2>&1); then
  say service wrong "$said"
elif ! grep -Fqx -- "$SERVICE" <<< "$said"; then
  say service stopped ""
else
  say service ok ""
fi
said=$(cat <&"$health")
if [ "$said" = well ]; then say health ok ""; else say health wrong "$said"; fi
"""


class OdooHost(Block):
    """An Odoo that runs in Docker Compose, on the worker's own host or on one that is reached over SSH.

    Example:
        Load a stored Odoo host and look whether all is there:
        ```python
        from blocks.odoo_host import OdooHost

        host = OdooHost.load("BLOCK_NAME")
        for check in host.check():
            print(check.subject, check.found, check.advice)
        ```
    """

    _block_type_name = "Odoo Host"
    _block_type_slug = "odoo-host"
    _description = (
        "An Odoo in Docker Compose, on the worker's host or over SSH. `odoo_module_upgrade` takes its name, "
        "`ops doctor` tests it."
    )
    _documentation_url = HttpUrl("https://docs.prefect.io/v3/concepts/blocks")

    ssh_destination: SshDestination = Field(
        default="",
        title="SSH destination",
        description="Where Odoo runs, as user@host; empty when that is the worker's own host. SSH takes the keys of "
        "the user that runs the worker.",
    )
    ssh_port: SshPort = Field(default=22, title="SSH port", description="Port of the SSH server there.")
    repo_dir: CheckoutFolder = Field(
        default="/opt/odoo",
        title="Checkout",
        description="Absolute path, on Odoo's host, of the git checkout with the code and the compose file.",
    )
    compose_file: ComposeFile = Field(
        default="deploy/docker-compose.prod.yml",
        title="Compose file",
        description="The compose file, relative to the checkout or absolute.",
    )
    service: ComposeService = Field(default="odoo", title="Service", description="Odoo's service in the compose file.")
    health_url: HealthUrl = Field(
        default="http://localhost:8069/web/health",
        title="Health address",
        description="Address that answers with success when Odoo is up, as Odoo's host itself reaches it. An upgrade "
        "asks for the login page of its database as well, at the same host and port.",
    )

    def check(self) -> list[Check]:
        """Look whether the host is reached, the checkout and the service are there, and Odoo answers."""
        return _run_checks(self, CODE + RUNNING, {**_CODE, **_RUNNING}, status_seconds=CHECK_STATUS_SECONDS)


def check_code(host: OdooHost) -> list[Check]:
    """Look for programs and checkout alone: an Odoo that does not run may be upgraded as well."""
    return _run_checks(host, CODE, _CODE, status_seconds=STATUS_SECONDS)


def _run_checks(host: OdooHost, checks: str, judges: Mapping[str, Judge], *, status_seconds: int) -> list[Check]:
    """Run the shell text of the checks, on Odoo's host, and say what its lines mean."""
    limit = HOST_SECONDS + status_seconds
    values = {"SERVICE": host.service, "STATUS_SECONDS": str(status_seconds)}
    try:
        code, said, complaint = run_there(host, checks, values, seconds=limit)
    except FileNotFoundError as error:
        return [Check(str(error.filename), "not on the PATH of this host", f"install {error.filename}")]
    if code is None:
        found = f"no answer within {limit:g} s"
        return [Check("reached", found, "look at the host: its load, its Docker daemon, the network between")]
    reached = _reached(host, code, complaint)
    return [reached, *judge_lines(host, said, judges)] if reached.ok else [reached]


def run_there(host: OdooHost, script: str, values: Mapping[str, str], *, seconds: float) -> tuple[int | None, str, str]:
    """Run shell text on the host, with these variables, `REPO`, `COMPOSE_FILE` and `HEALTH_URL`.

    Returns the exit code (None after a timeout, 255 where ssh failed), stdout and stderr. Raises
    FileNotFoundError where bash or ssh is not here.
    """
    words = ["bash"]
    if host.ssh_destination:
        words = ["ssh", *SSH_OPTIONS, KNOWN_HOSTS_ONLY, f"-oPort={host.ssh_port}", "--", host.ssh_destination, "bash"]
    place = {"REPO": host.repo_dir, "COMPOSE_FILE": host.compose_file, "HEALTH_URL": host.health_url}
    exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in {**place, **values}.items())
    return _run([*words, "-s"], f"main() {{\n{exports}{script}}}\nmain\n", seconds)


def _reached(host: OdooHost, code: int, complaint: str) -> Check:
    if not host.ssh_destination:
        return Check("reached", "is this host")
    if code != 255:  # ssh's own failure
        return Check("reached", f"{host.ssh_destination} answers over SSH")
    reason = (complaint.strip().splitlines() or ["ssh ended without a word"])[-1].strip()
    by_hand = f"ssh -p {host.ssh_port} {host.ssh_destination}"
    if "identification has changed" in complaint.lower():
        name = host.ssh_destination.rpartition("@")[2]
        known = name if host.ssh_port == 22 else f"[{name}]:{host.ssh_port}"
        advice = (
            "the host shows another key than the one that is known: find out why. If it is right, as the user that "
            f"runs the worker: ssh-keygen -R '{known}', then connect once by hand and compare the key: {by_hand}"
        )
    elif "host key" in complaint.lower():
        advice = f"as the user that runs the worker, connect once by hand and compare the key: {by_hand}"
    elif "permission denied" in complaint.lower():
        advice = "put the public key of the user that runs the worker into authorized_keys there"
    else:
        advice = f"see that the host is up, and whether this works: {by_hand}"
    return Check("reached", reason, advice)


def judge_lines(host: OdooHost, said: str, judges: Mapping[str, Judge]) -> list[Check]:
    """What the lines of the checks mean. A line that is missing is said too."""
    lines = [line.split("\t", 2) for line in said.splitlines() if line.count("\t") == 2]
    seen = {name: (state, detail.strip()[:200]) for name, state, detail in lines}
    return [
        judge(host, *seen.get(name, ("wrong", "the look ended before it came to this")))
        for name, judge in judges.items()
    ]


def _programs(_host: OdooHost, state: str, detail: str) -> Check:
    if state == "ok":
        return Check("programs", "bash, git, docker and curl are there")
    return Check("programs", detail, "install them on Odoo's host, for the user that is logged in there")


def _checkout(host: OdooHost, state: str, detail: str) -> Check:
    if state == "ok":
        return Check("checkout", f"{host.repo_dir} is at {detail}")
    if state == "changed":
        advice = (
            "commit or stash it there, or end the merge or rebase (a submodule: commit it, or git submodule update): "
            "an upgrade checks another commit out. Remove index.lock where no git runs"
        )
        return Check("checkout", f"{host.repo_dir} was changed by hand: {detail}", advice)
    if state == "slow":
        found = f"{host.repo_dir}: git status did not end within {detail} s, which says what was changed by hand"
        return Check("checkout", found, "look at the disk of that host, then run git status there, and try again")
    if "dubious ownership" in detail:
        advice = (
            f"let the user that runs this there own the checkout, or have it trust it: git config --global --add "
            f"safe.directory {host.repo_dir}"
        )
        return Check("checkout", f"{host.repo_dir} belongs to another user, and git refuses it", advice)
    return Check("checkout", f"{host.repo_dir}: {detail}", "correct the block's checkout, or clone the code there")


def _service(host: OdooHost, state: str, detail: str) -> Check:
    if state == "ok":
        return Check("service", f"{host.service} runs")
    if state == "unknown":
        return Check("service", f"{host.compose_file} has no service {host.service}", f"choose from: {detail}")
    if state == "stopped":
        advice = f"start it there: docker compose -f {host.compose_file} up -d {host.service}"
        return Check("service", f"{host.service} does not run", advice)
    return Check("service", detail, "correct the block's compose file, or see what Docker says on Odoo's host")


def _health(host: OdooHost, state: str, detail: str) -> Check:
    if state == "ok":
        return Check("health", f"{host.health_url} is healthy")
    return Check("health", f"{host.health_url}: {detail or 'no answer'}", "read Odoo's log: docker compose logs")


_CODE: dict[str, Judge] = {"programs": _programs, "checkout": _checkout}
_RUNNING: dict[str, Judge] = {"service": _service, "health": _health}


def _run(words: list[str], script: str, seconds: float) -> tuple[int | None, str, str]:
    """The exit code (None after a timeout), and the output. Nothing of it is left running here."""
    process = subprocess.Popen(
        words,
        env=inherited() | agent_env(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd="/",
        start_new_session=True,
    )
    try:
        said, complaint = process.communicate(script.encode(), timeout=seconds)
    except subprocess.TimeoutExpired:
        return None, "", ""
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return process.returncode, said.decode(errors="replace"), complaint.decode(errors="replace")
