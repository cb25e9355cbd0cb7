"""The runbook `odoo_module_upgrade`: new code and upgraded modules in a running Odoo."""

from __future__ import annotations

import time
from typing import Any

from blocks.odoo_host import OdooHost
from flows.backup.parameters import ExistingDatabase
from flows.engine.active_run import current_run
from flows.engine.approval import approval
from flows.engine.preflight import PROGRAMS, missing_programs
from flows.engine.runbook import runbook
from flows.engine.step import StepOutput, action, step
from flows.odoo.modules import check_same, check_upgradable, check_upgraded, read_modules, read_uuid
from flows.odoo.parameters import (
    APPROVAL_MINUTES,
    ApprovalMinutes,
    GitRef,
    OdooModules,
    OptionalCheckout,
    OptionalComposeFile,
    OptionalHealthUrl,
    OptionalHost,
    OptionalService,
)
from flows.odoo.site import (
    CHECK_OUT,
    check_checkout,
    find_host,
    host_env,
    host_resource,
    on_host,
    wait_healthy,
)
from flows.odoo.told import upgrade_facts
from opsdb.errors import PreflightError, StepFailedError

PULL_SECONDS = 60
UPGRADE_SECONDS = 300
ASSETS_SECONDS = 300
RESTART_SECONDS = 60
HEALTH_SECONDS = 150
MARGIN_SECONDS = 60  # preflight and the look at the modules
STOP_SECONDS = 10  # of a step's time, for what ends in the container before the step does

# What ends the client of `docker compose exec` leaves its program running in the container. So the program carries a
# mark, a limit of its own ends it there, and whatever else ends this step ends it by its mark.
IN_CONTAINER = """\
cd -- "$REPO"
compose() { docker compose -f "$COMPOSE_FILE" "$@"; }
marked() {
  compose exec -T "$ODOO_SERVICE" sh -c '
    for process in /proc/[0-9]*; do
      if grep -qszx "OPS_UPGRADE_OF=$1" "$process/environ"; then
        echo "${process#/proc/}"
        [ "$2" = look ] || kill "-$2" "${process#/proc/}" || true
      fi
    done' sh "$ODOO_DB" "$1" < /dev/null
}
left=$(marked look)
if [ -n "$left" ]; then
  echo "another upgrade of $ODOO_DB runs in the container, as process" $left ": wait for its end, or end it there" >&2
  exit 75
fi
ended=no
stop() {
  trap '' PIPE  # whoever reads this may be gone: Odoo is ended all the same
  [ "$ended" = no ] || return 0
  left=$(marked TERM) || true
  if [ -n "$left" ]; then
    echo "ending Odoo in the container, process" $left >&2 || true
    sleep 1
    marked KILL > /dev/null || true
  fi
}
trap stop EXIT
trap 'exit 143' TERM PIPE  # bash says so when a program is killed, and would end by that where nobody reads
odoo() {
  compose exec -T -e "OPS_UPGRADE_OF=$ODOO_DB" "$ODOO_SERVICE" timeout --kill-after=5 "$LIMIT" odoo "$@" --no-http
  ended=yes
}
"""
# Between two attempts, while an approval is waited for, another upgrade may have checked out something else.
AT_COMMIT = """\
found=$(git -C "$REPO" rev-parse HEAD)
if [ "$found" != "$COMMIT" ]; then
  echo "$REPO is at $found now and no longer at $COMMIT: something else has checked it out." \\
    "This step changed nothing: start the upgrade again" >&2
  exit 65
fi
"""
UPGRADE = f"""\
{AT_COMMIT}
{IN_CONTAINER}
odoo -d "$ODOO_DB" -u "$MODULES" --stop-after-init < /dev/null
"""
# Odoo makes its bundles anew when a page next asks for one. Upgrading `web` as well would upgrade everything that
# depends on it, which is all there is, and the modules a second time.
ASSETS = f"""\
{AT_COMMIT}
{IN_CONTAINER}
odoo shell -d "$ODOO_DB" <<'PYTHON'
env["ir.attachment"].regenerate_assets_bundles()
env.cr.commit()
print("database:", env["ir.config_parameter"].sudo().get_param("database.uuid"))
print("assets: dropped")
PYTHON
"""
RESTART = f"""\
{AT_COMMIT}
cd -- "$REPO"
docker compose -f "$COMPOSE_FILE" restart "$ODOO_SERVICE"
"""
WAIT = wait_healthy("$HEALTH_URL")


@runbook(
    deadline_seconds=PULL_SECONDS
    + UPGRADE_SECONDS
    + ASSETS_SECONDS
    + RESTART_SECONDS
    + HEALTH_SECONDS
    + MARGIN_SECONDS,
    exclusive="odoo_db",
    explain=upgrade_facts,
    subject="${params.odoo_db} · upgrade ${params.modules}",
)
def odoo_module_upgrade(
    *,
    odoo_db: ExistingDatabase,
    modules: OdooModules,
    git_ref: GitRef = "main",
    odoo_host: OptionalHost = "",
    repo_dir: OptionalCheckout = "",
    compose_file: OptionalComposeFile = "",
    odoo_service: OptionalService = "",
    health_url: OptionalHealthUrl = "",
    approval_minutes: ApprovalMinutes = APPROVAL_MINUTES,
) -> dict[str, Any]:
    """Check out code, upgrade modules of one Odoo database in its container, restart Odoo, wait for its health.

    **When to use it:** to bring a new version of modules to a database. Back it up first.

    **What it changes:** the checkout, the modules in the database, its assets, and Odoo restarts: its users are cut off
    for a moment. It is not repeated by itself.

    **What it needs:** a clean checkout, modules that are installed, and docker, git and curl where Odoo runs. All that
    is checked before anything changes. With OPS_UPGRADE_APPROVAL it asks before the upgrade.

    ```
    ops run odoo_db_backup -p odoo_db=odoo_staging --wait
    ops run odoo_module_upgrade -p odoo_db=odoo_staging -p modules=sale,stock --wait
    ```

    Args:
        odoo_db: Database whose modules are upgraded.
        modules: Names of installed modules, each once.
        git_ref: Branch of origin, tag or commit to check out.
        odoo_host: Odoo Host block that says where Odoo runs, and all that is empty below. Empty for this host.
        repo_dir: Absolute path of the checkout with the code and the compose file. Empty for what the block says, or
            /opt/odoo.
        compose_file: The compose file, relative to the checkout or absolute. Empty for what the block says, or
            deploy/docker-compose.prod.yml.
        odoo_service: Odoo's service in the compose file. Empty for what the block says, or odoo.
        health_url: Address that answers with success when Odoo is up. Empty for what the block says, or
            http://localhost:8069/web/health.
        approval_minutes: Minutes to wait for an approval, once the code is there, where OPS_UPGRADE_APPROVAL is on.
            Empty for 60.
    """
    started = time.monotonic()
    asked = {"repo_dir": repo_dir, "compose_file": compose_file, "service": odoo_service, "health_url": health_url}
    told = f"the block odoo-host/{odoo_host}" if odoo_host else "the checkout"
    host = find_host(odoo_host or None, **asked)
    current_run().acquire(host_resource(host))  # another upgrade there moves the checkout, and restarts this one's Odoo
    found = action(
        "preflight",
        lambda: _prepare(odoo_db, modules, host),
        about=f"check programs, {told}, and that {', '.join(modules)} are installed in {odoo_db}",
        preflight=True,
    )
    # an attempt that goes on after the upgrade finds other versions; one that finds another place does not go on
    far = f"{host.ssh_destination} port {host.ssh_port}" if host.ssh_destination else "this host"
    where = f"{far}, service {host.service} of {host.compose_file} in {host.repo_dir}"
    before = action(
        "note_versions", lambda: found, about=f"note the versions of the modules, at {where}", preflight=True
    )
    values = {
        "GIT_REF": git_ref,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_SSH_COMMAND": "ssh -oBatchMode=yes",
        "ODOO_DB": odoo_db,
        "MODULES": ",".join(modules),
    }

    def run_on_host(name: str, command: str, seconds: int) -> StepOutput:
        env = host_env(host, values | {"LIMIT": str(seconds - STOP_SECONDS)})
        return step(name, on_host(host, command), timeout=seconds, env=env)

    pulled = run_on_host("pull_latest", CHECK_OUT, PULL_SECONDS)
    values["COMMIT"] = pulled.word("after")
    if current_run().settings.upgrade_approval:
        question = f"upgrade {', '.join(modules)} in {odoo_db} to commit {values['COMMIT'][:12]}?"
        approval("approve_upgrade", question, timeout=60 * approval_minutes)
    elif approval_minutes != APPROVAL_MINUTES:
        current_run().event("nobody is asked to approve: OPS_UPGRADE_APPROVAL is off", level="warning")
    run_on_host("upgrade_modules", UPGRADE, UPGRADE_SECONDS)
    after = action(
        "check_modules",
        lambda: _check_upgraded(odoo_db, modules),
        about=f"look whether {', '.join(modules)} are installed in {odoo_db}",
    ) or {"versions": before, "database": None}
    assets = run_on_host("rebuild_assets", ASSETS, ASSETS_SECONDS)
    if assets.stdout is not None:
        _check_assets(odoo_db, after["database"], assets.stdout)
    run_on_host("restart_odoo", RESTART, RESTART_SECONDS)
    run_on_host("wait_health", WAIT, HEALTH_SECONDS)
    return {
        "commit_before": pulled.word("before"),
        "commit": values["COMMIT"],
        "modules": {name: {"before": before[name], "after": after["versions"][name]} for name in modules},
        "duration_seconds": round(time.monotonic() - started, 3),
    }


def _prepare(database: str, modules: list[str], host: OdooHost) -> dict[str, str | None]:
    """The modules' versions. Raises PreflightError unless all is there."""
    if missing := missing_programs(*(("bash", "ssh") if host.ssh_destination else PROGRAMS["odoo_module_upgrade"])):
        raise PreflightError(f"not on the PATH: {', '.join(missing)}")
    check_checkout(host)
    known = read_modules(database, url=current_run().settings.odoo_url)
    check_upgradable(modules, known, database=database)
    return {name: known[name].version for name in modules}


def _check_upgraded(database: str, modules: list[str]) -> dict[str, Any]:
    """The versions of the modules, and the id of the database in which they stand."""
    url = current_run().settings.odoo_url
    known = read_modules(database, url=url)
    check_upgraded(modules, known, database=database)
    return {"versions": {name: known[name].version for name in modules}, "database": read_uuid(database, url=url)}


def _check_assets(database: str, uuid: str | None, printed: str) -> None:
    if "assets: dropped" not in printed:
        raise StepFailedError("Odoo's shell ended without having dropped the assets: read the log of rebuild_assets")
    check_same(database, uuid, printed)
