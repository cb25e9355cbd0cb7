"""An upgrade taken back: the previous code, database and filestore in the places of the present ones, which are set
aside.

Each step looks at what is there, so that the next rollback finishes one that was killed: the names of what is set aside
come from the upgrade's run. A rollback that fails before all is in its place undoes what was done. From then on Odoo
may run, people may work, and nothing is undone any more: the comment of the database that was set aside says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from blocks.checkout import MARK
from flows.backup.postgres import connect
from flows.engine.active_run import current_run
from flows.engine.step import StepOutput, action, step
from flows.odoo import aside, service
from flows.odoo.before import Before
from flows.odoo.before_again import restore_before
from flows.odoo.health import wait_healthy
from flows.odoo.lost_rows import count_written
from flows.odoo.rows_since import COUNT_SECONDS, Since
from flows.odoo.site import AT, AT_UNCHANGED, SETTLED, host_env, on_host
from flows.odoo.take_back import Phase, TakeBack, comment_of, phase_of
from flows.odoo.undo import Undo
from opsdb.errors import StepError, StepFailedError
from opsdb.runs.lookup import short_id

STOP_SECONDS = 120
CODE_SECONDS = 180  # git status reads a large checkout, and submodules may have many files
ASSETS_SECONDS = 300
START_SECONDS = 120
HEALTH_SECONDS = 150
_MARGIN_SECONDS = 10  # of a step's time, for what ends on the host before the step does
ROLLBACK_SECONDS = (
    2 * (STOP_SECONDS + CODE_SECONDS + START_SECONDS) + ASSETS_SECONDS + HEALTH_SECONDS + COUNT_SECONDS + 300
)

# A rollback that was killed had the previous code checked out: the present one is what it noted beside the checkout.
STOP = f"""\
{MARK}
cd -- "$REPO"
running=$(docker compose -f "$COMPOSE_FILE" ps --status running --services < /dev/null)
echo "code: $(commit_of_before || git rev-parse HEAD)"
if grep -Fqx -- "$ODOO_SERVICE" <<< "$running"; then echo "was: running"; else echo "was: stopped"; fi
{service.STOP}
"""
ASSETS = service.odoo_shell(f'{service.DROP_ASSETS}\nprint("assets: dropped")')
# The commit was checked out here before, so nothing is fetched: a rollback needs no origin.
TO_COMMIT = f"""\
{AT_UNCHANGED}
at "$COMMIT"
git log -1 --format='%h %s (%cs)'
"""
# What something else has checked out meanwhile stays.
TO_NOW_AGAIN = f"""\
{AT}
cd -- "$REPO"
if [ "$(git rev-parse HEAD)" = "$COMMIT_BEFORE" ] || commit_of_before > /dev/null; then at "$COMMIT"; fi
"""


def take_back(found: TakeBack) -> dict[str, Any]:
    """Take the upgrade back, as steps of the current run; returns what is where. Raises StepError."""
    before, place = found.before, found.before.place
    host = _OnHost(before)
    since: Since | None = None
    not_restored = restore_before(before, found.ready, found.filestores) if found.ready else []
    if not found.phase.is_in_place:
        left = f"`ops rollback {short_id(before.upgrade)}` resumes from there"
        about = f"{place.service} is stopped from here on. If this run ends before it was started again, {left}"
        current_run().event(about, once="in the middle")
        with Undo(left=left) as undo:
            stopped = host.step("stop_odoo", STOP, STOP_SECONDS)
            if stopped.word("was") == "running":
                undo.by("stop", lambda: host.step("start_odoo_again", service.START, START_SECONDS))
            commits = {"COMMIT": stopped.word("code"), "COMMIT_BEFORE": place.commit}
            # before it is done: HEAD moves first, and Odoo is not started on what a part of it left
            undo.by("code", lambda: host.step("code_of_now_again", TO_NOW_AGAIN, CODE_SECONDS, **commits))
            host.step("code_of_before", TO_COMMIT, CODE_SECONDS, COMMIT=place.commit)
            if before.begun:
                since = count_written(
                    "count_again",
                    found,
                    about=f"compare the rows of {place.database} with the previous ones, now that Odoo is stopped",
                    words="set aside with the database",  # people may have worked since they were asked
                )
                _bring_back(found, undo)
            if before.begun:
                _note(found, Phase.IN_PLACE, "all_in_place", "the previous state is in its place")
            undo.keep()
    # until all is in place, the commit to which the code would go back is noted in the checkout alone
    if found.phase is not Phase.SETTLED:
        host.step("keep_code", SETTLED, CODE_SECONDS)
        if before.begun:
            _note(found, Phase.SETTLED, "code_kept", "its code belongs to it")
    failed = _rebuild_assets(host) if before.begun else None
    host.step("start_odoo", service.START, START_SECONDS)
    host.step("wait_health", wait_healthy("$HEALTH_URL"), HEALTH_SECONDS)
    if failed is not None:
        raise StepFailedError(
            f"the previous state is in its place and Odoo runs, but its assets were not rebuilt: {failed}. Hint: "
            f"`ops rollback {short_id(before.upgrade)}` does that again, and nothing else"
        ) from failed
    broken = aside.name_broken(before.upgrade) if before.begun else None
    kept_aside = found.filestores / broken if broken and found.filestores else None
    return {
        "commit": place.commit,
        "database": place.database,
        "taken_back_to": before.protection.words if before.begun and before.protection else None,
        "not_restored": not_restored,
        "written_since": since.changed if since else [],
        "set_aside": {"database": broken, "filestore": str(kept_aside) if kept_aside else None},
        "drop_it_with": aside.drop_hint(before.upgrade, found.filestores) if broken else None,
    }


def _rebuild_assets(host: _OnHost) -> StepError | None:
    """Have Odoo make its bundles again, while it is stopped. An error must not keep Odoo from its start."""
    try:
        host.step("rebuild_assets", ASSETS, ASSETS_SECONDS)
    except StepError as error:
        return error
    return None


def _bring_back(found: TakeBack, undo: Undo) -> None:
    """The database and the filestore."""
    url, place, upgrade = current_run().settings.odoo_url, found.before.place, found.before.upgrade
    live, incoming, broken = place.database, aside.name_before(upgrade), aside.name_broken(upgrade)

    def is_swapped() -> bool:
        with connect(url) as server:
            return phase_of(server, found.before) is not Phase.NOT_YET

    def swap() -> None:
        if not is_swapped():  # by a rollback that was killed
            aside.swap_databases(
                url, live, incoming=incoming, aside=broken, comment=comment_of(found.before, Phase.SWAPPED)
            )

    def swap_again() -> None:
        if is_swapped():
            comment = aside.comment_before(live, upgrade)
            aside.swap_databases(url, live, incoming=broken, aside=incoming, comment=comment)

    undo.by("databases", _as_action("swap_databases_again", swap_again, f"{broken} gets its name {live} again"))
    _as_action(
        "swap_databases", swap, f"in one transaction, {live} gets the name {broken}, and {incoming} that of {live}"
    )()
    if parent := found.filestores:
        undo.by(
            "filestores",
            _as_action(
                "swap_filestores_again",
                lambda: aside.swap_filestores_again(parent, live, broken=broken, before=incoming),
                f"{parent / broken} gets its name {live} again",
            ),
        )
        _as_action(
            "swap_filestores",
            lambda: aside.swap_filestores(parent, live, incoming=incoming, aside=broken),
            f"{parent / live} gets the name {broken}, and {incoming} that of {live}",
        )()


def _note(found: TakeBack, phase: Phase, name: str, words: str) -> None:
    """Note in the comment of the database that was set aside how far the rollback is, as a step of this name."""
    url, broken = current_run().settings.odoo_url, aside.name_broken(found.before.upgrade)
    _as_action(
        name,
        lambda: aside.set_comment(url, broken, comment_of(found.before, phase)),
        f"note in the comment of {broken} that {words}",
    )()


@dataclass(frozen=True, slots=True)
class _OnHost:
    """Steps where Odoo runs."""

    before: Before

    def step(self, name: str, script: str, seconds: int, **values: str) -> StepOutput:
        host = self.before.place.host
        facts = {"ODOO_DB": self.before.place.database, "MODULES": "", "RUN": str(current_run().id)}
        facts |= {"GIT_TERMINAL_PROMPT": "0", "LIMIT": str(seconds - _MARGIN_SECONDS)}
        env = host_env(host, {**facts, **values})
        # what was undone later counts as done: an attempt that resumes does not skip it
        return step(name, on_host(host, script), timeout=seconds, env=env, must_run_again=True)


def _as_action(name: str, work: Callable[[], None], about: str) -> Callable[[], None]:
    return lambda: action(name, work, about=about, must_run_again=True)
