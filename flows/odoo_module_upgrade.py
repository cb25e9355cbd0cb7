"""The runbook `odoo_module_upgrade`: new code and upgraded modules in a running Odoo."""

from __future__ import annotations

import time
from typing import Any

from blocks.odoo_host import OdooHost
from flows.backup.parameters import ExistingDatabase
from flows.engine.active_run import current_run
from flows.engine.preflight import PROGRAMS, missing_programs
from flows.engine.put_back import put_back_unless_done
from flows.engine.runbook import runbook
from flows.engine.step import StepOutput, action, step
from flows.odoo.before import (
    CHECKS_OUT,
    UPGRADES_MODULES,
    note_checked_out,
    note_place,
    refuse_taken_back,
)
from flows.odoo.broken_upgrade import (
    PUT_BACK_SECONDS,
    Upgrade,
    code_back_unless_done,
    end_earlier,
    goes_on_with_modules,
)
from flows.odoo.health import tell_health
from flows.odoo.left_commit import warn_of_left_commit
from flows.odoo.module_code import check_code
from flows.odoo.module_states import check_may_put_back, wait_until_alone
from flows.odoo.modules import (
    check_not_lowered,
    check_same,
    check_unmarked,
    check_upgradable,
    check_upgraded,
    check_versions,
    read_modules,
    read_uuid,
    versions_of,
)
from flows.odoo.others import name_others
from flows.odoo.parameters import (
    APPROVAL_MINUTES,
    UPGRADE_MINUTES,
    ApprovalMinutes,
    GitRef,
    OdooModules,
    OptionalCheckout,
    OptionalComposeFile,
    OptionalHealthUrl,
    OptionalHost,
    OptionalService,
    UpgradeMinutes,
)
from flows.odoo.protection import PROTECT_SECONDS, Protect, check_guard
from flows.odoo.rollback_offer import Rollback, taken_back_on_failure
from flows.odoo.site import CHECK_OUT, check_checkout, describe_place, find_host, host_env, host_resource, on_host
from flows.odoo.take_back import refuse_in_the_middle
from flows.odoo.time_limit import find_minutes
from flows.odoo.told import upgrade_facts
from flows.odoo.upgrade_approval import CODE_SECONDS, wait_for_approval
from flows.odoo.upgrade_shell import ASK, ASSETS, IMAGE, NOTE_COMMIT, START, STOP, UPGRADE, WAIT
from opsdb.errors import PreflightError, StepFailedError

ASK_SECONDS = 120
PULL_SECONDS = 300  # submodules may be new
IMAGE_SECONDS = 900
STOP_SECONDS = 60
ASSETS_SECONDS = 300
START_SECONDS = 90
HEALTH_SECONDS = 150
MARGIN_SECONDS = 190  # preflight, with its looks at checkout and health, and the looks at the modules
ENDING_SECONDS = 10  # of a step's time, for what ends before the step does


@runbook(
    deadline_seconds=ASK_SECONDS
    + PULL_SECONDS
    + 4 * CODE_SECONDS
    + IMAGE_SECONDS
    + PROTECT_SECONDS
    + STOP_SECONDS
    + 60 * UPGRADE_MINUTES
    + ASSETS_SECONDS
    + START_SECONDS
    + HEALTH_SECONDS
    + PUT_BACK_SECONDS
    + MARGIN_SECONDS,
    max_attempts=2,  # the second one only puts back what a killed process left, and says so
    exclusive="odoo_db",
    version="6",
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
    upgrade_minutes: UpgradeMinutes = 0,
    protect: Protect = "dump",
    rollback: Rollback = "ask",
    approval_minutes: ApprovalMinutes = APPROVAL_MINUTES,
) -> dict[str, Any]:
    """Check out code, upgrade modules of one Odoo database while its service is stopped, start it, wait for its health.

    **When to use it:** to bring a new version of modules to a database. It keeps what was there before, and the
    command ops rollback takes it back.

    **What it changes:** the checkout, the modules in the database, and its assets. Odoo's service is stopped meanwhile:
    nobody works in it. However the run ends, the service runs again and no module is left half way; the run says what
    was committed. It is not repeated by itself.

    **What it needs:** a checkout that nobody changed by hand, modules that are installed, no module that somebody
    marked, and docker, git and curl where Odoo runs. All that is checked before anything changes, and that Odoo works
    with the database that the room sees. Which code Odoo's container will load is checked before Odoo is stopped: that
    of the checkout, and none that is older than the database. With OPS_UPGRADE_APPROVAL it asks before the upgrade, and
    the previous code is checked out while it waits.

    ```
    ops run odoo_module_upgrade -p odoo_db=odoo_staging -p modules=sale,stock --wait
    ```

    Args:
        odoo_db: Database whose modules are upgraded.
        modules: Names of installed modules, each once. The name all stands for base, on which all others depend.
        git_ref: Branch of origin, tag or commit to check out.
        odoo_host: Odoo Host block that says where Odoo runs, and all that is empty below. Empty for this host.
        repo_dir: Absolute path of the checkout with the code and the compose file. Empty for what the block says, or
            /opt/odoo.
        compose_file: The compose file, relative to the checkout or absolute. Empty for what the block says, or
            deploy/docker-compose.prod.yml.
        odoo_service: Odoo's service in the compose file. Empty for what the block says, or odoo.
        health_url: Address of Odoo's health, or another one that answers with 200 and no redirect. The login page of
            this database is asked for as well, at the same host and port. Empty for what the block says, or
            http://localhost:8069/web/health.
        upgrade_minutes: Minutes that the upgrade itself may take, at most 240. Empty for three times the longest of
            the last five of this database, at least 15 and 2 for each GB.
        protect: What is kept of the previous state while the service is stopped, so that the upgrade can be taken back:
        dump for a
            verified backup with the filestore, copy for a copy of both on the server, none for nothing.
        rollback: What happens when the upgrade fails after it touched the database: ask for a rollback that waits for
            an approval, on_failure for one that begins at once, never for none.
        approval_minutes: Minutes to wait for an approval, once the code was seen, where OPS_UPGRADE_APPROVAL is on.
            Empty for 60.
    """
    started = time.monotonic()
    run = current_run()
    asked = {"repo_dir": repo_dir, "compose_file": compose_file, "service": odoo_service, "health_url": health_url}
    told = f"the block odoo-host/{odoo_host}" if odoo_host else "the checkout"
    host = find_host(odoo_host or None, **asked)
    run.acquire(host_resource(host))  # another upgrade there moves the checkout, and restarts this one's Odoo
    refuse_taken_back()
    with taken_back_on_failure(odoo_db, rollback):
        end_earlier(odoo_db, host)
    wanted = ["base"] if "all" in modules else list(modules)
    found = action(
        "preflight",
        lambda: _prepare(odoo_db, wanted, host, upgrade_minutes),
        about=f"check programs, {told}, that {', '.join(wanted)} are installed in {odoo_db}, and that none is marked",
        preflight=True,
    )
    # an attempt that resumes after the upgrade finds other versions; one in another place does not resume
    where = describe_place(host)
    noted = action(
        "note_versions", lambda: found, about=f"note the versions of the modules, at {where}", preflight=True
    )
    before = noted["versions"]
    guard = action(
        "protection_preflight",
        lambda: check_guard(odoo_db, protect),
        about=f"check that {odoo_db} can be protected, and that there is room (protect={protect})",
        preflight=True,
    )
    values = {
        "GIT_REF": git_ref,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_SSH_COMMAND": "ssh -oBatchMode=yes",
        "ODOO_DB": odoo_db,
        "MODULES": ",".join(wanted),
        "RUN": str(run.id),
    }

    def run_on_host(name: str, command: str, seconds: int) -> StepOutput:
        env = host_env(host, values | {"LIMIT": str(seconds - ENDING_SECONDS)})
        return step(name, on_host(host, command), timeout=seconds, env=env)

    # before anything changes: what runs in the container may work with another server than the room
    said = run_on_host("ask_odoo", ASK, ASK_SECONDS).stdout
    if said is not None:
        check_same(odoo_db, noted["database"], said)
    found_at = run_on_host("note_commit", NOTE_COMMIT, CODE_SECONDS)
    commit_before = note_place(odoo_db, host, found_at.word("commit"), found_at.word("head"))
    values["COMMIT"] = run_on_host(CHECKS_OUT, CHECK_OUT, PULL_SECONDS).word("after")
    note_checked_out(host, values["COMMIT"])
    upgrade = Upgrade(odoo_db, host, before, values["COMMIT"], commit_before)
    with code_back_unless_done(upgrade):
        said = run_on_host("image", IMAGE, IMAGE_SECONDS).stdout  # nobody waits for a download while Odoo is stopped
        if said is not None:
            check_code(wanted, before, said)
    question = f"upgrade {', '.join(wanted)} in {odoo_db} to commit {values['COMMIT'][:12]}?"
    wait_for_approval(question, approval_minutes, upgrade, values, run_on_host)
    upgrade.began_earlier = goes_on_with_modules()
    with taken_back_on_failure(odoo_db, rollback):
        with put_back_unless_done(upgrade.put_back, about=upgrade.about, seconds=PUT_BACK_SECONDS):
            run_on_host("stop_odoo", STOP, STOP_SECONDS)
            action(
                "alone",
                lambda: _check_alone(odoo_db),
                about=f"look whether another Odoo works with {odoo_db}, and that no module was marked meanwhile",
            )
            kept = guard.make() if guard else None
            upgrade.began = True
            run_on_host(UPGRADES_MODULES, UPGRADE, int(60 * noted["minutes"]) + ENDING_SECONDS)
            after = action(
                "check_modules",
                lambda: _check_upgraded(odoo_db, wanted, before),
                about=f"look whether {', '.join(wanted)} are installed in {odoo_db}, and none is left half way",
            )
            said = run_on_host("rebuild_assets", ASSETS, ASSETS_SECONDS).stdout
            if said is not None:
                _check_assets(odoo_db, wanted, noted["database"], said)
            run_on_host("start_odoo", START, START_SECONDS)
        run_on_host("wait_health", WAIT, HEALTH_SECONDS)
    return {
        "commit_before": commit_before,
        "commit": values["COMMIT"],
        "modules": {name: {"before": before.get(name), "after": (after or before).get(name)} for name in wanted},
        "protection": kept.words if kept else None,
        "duration_seconds": round(time.monotonic() - started, 3),
    }


def _prepare(database: str, modules: list[str], host: OdooHost, minutes: int) -> dict[str, Any]:
    """The modules' versions, what distinguishes the database, and the limit. PreflightError unless all is well."""
    if missing := missing_programs(*(("bash", "ssh") if host.ssh_destination else PROGRAMS["odoo_module_upgrade"])):
        raise PreflightError(f"not on the PATH: {', '.join(missing)}")
    check_checkout(host)
    warn_of_left_commit(host, database)
    url = current_run().settings.odoo_url
    known = read_modules(database, url=url)
    refuse_in_the_middle(database, url=url)
    check_unmarked(known, database=database)
    check_upgradable(modules, known, database=database)
    check_may_put_back(database, url=url)
    name_others(database, host, url=url)
    tell_health(host, database)
    return {
        "versions": versions_of(known),
        "database": read_uuid(database, url=url),
        "minutes": minutes or find_minutes(database, url=url),
    }


def _check_alone(database: str) -> None:
    """Nobody works in the database any more; what they marked since the preflight is theirs. Raises StepFailedError."""
    url = current_run().settings.odoo_url
    wait_until_alone(database, url=url)
    try:
        check_unmarked(read_modules(database, url=url), database=database)
    except PreflightError as error:
        raise StepFailedError(str(error)) from error


def _check_upgraded(database: str, modules: list[str], before: dict[str, str | None]) -> dict[str, str | None]:
    """The versions of all modules."""
    known = read_modules(database, url=current_run().settings.odoo_url)
    check_upgraded(modules, known, database=database)
    check_not_lowered(modules, known, before)
    return versions_of(known)


def _check_assets(database: str, modules: list[str], uuid: str | None, printed: str) -> None:
    if "assets: dropped" not in printed:
        raise StepFailedError("Odoo's shell ended without having dropped the assets: read the log of rebuild_assets")
    check_same(database, uuid, printed)
    known = read_modules(database, url=current_run().settings.odoo_url)
    check_versions(modules, known, printed)
