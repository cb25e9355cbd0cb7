"""What a rollback that was killed says in the attempt after it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from flows.odoo.aside import name_broken
from flows.odoo.before import Before, Place, Protection
from flows.odoo.killed_rollback import OF_ALL, OF_CODE, UNDOES, Steps, tell_left
from flows.odoo.take_back import Phase

UPGRADE = UUID("5f0c5c1e-6c0e-4d38-9a0e-0d5e1f3a9c0b")
PLACE = Place(
    database="shop", commit="c" * 40, ssh_destination="", ssh_port=22, repo_dir="/opt/odoo", compose_file="c.yml",
    service="odoo", health_url="http://localhost/web/health",
)  # fmt: skip
COPY = Protection(protect="copy", made_at=datetime(2026, 11, 30, tzinfo=UTC), filestore=True)
GOES_ON = "Hint: `ops rollback 1f3a9c0b` resumes from there"


def before(**changes: Any) -> Before:
    return Before(**({"upgrade": UPGRADE, "attempt": 1, "place": PLACE, "protection": COPY, "begun": True, "since": []}
                     | changes))  # fmt: skip


def killed_in(step: str, order: tuple[str, ...] = OF_ALL) -> Steps:
    number = order.index(step)
    return Steps(["preflight", *order[: number + 1]], ["preflight", *order[:number]])


def test_every_step_that_is_left_is_named_with_the_live_database_and_the_service() -> None:
    assert tell_left(before(), killed_in("swap_filestores"), Phase.SWAPPED) == (
        "done: stop_odoo, code_of_before, count_again, swap_databases; left: swap_filestores, all_in_place, keep_code, "
        f"code_kept, rebuild_assets, start_odoo, wait_health. shop is the previous database, and that of the upgrade "
        f"is kept as {name_broken(UPGRADE)}. odoo is stopped. {GOES_ON}"
    )


@pytest.mark.parametrize(
    ("step", "phase", "said"),
    [
        ("stop_odoo", Phase.NOT_YET, "shop is still the database of the upgrade. odoo may be stopped."),
        ("count_again", Phase.NOT_YET, "shop is still the database of the upgrade. odoo is stopped."),
        ("swap_databases", None, "The server did not answer: shop is the previous database if it has ops_broken_"),
        ("swap_databases", Phase.NOT_YET, "left: swap_databases, swap_filestores"),
        ("swap_databases", Phase.SWAPPED, "count_again, swap_databases; left: swap_filestores"),
        ("keep_code", Phase.IN_PLACE, "all_in_place; left: keep_code, code_kept, rebuild_assets, start_odoo"),
        ("start_odoo", Phase.SETTLED, "kept as " + name_broken(UPGRADE) + ". odoo may be stopped."),
        ("wait_health", Phase.SETTLED, "left: wait_health. shop is the previous database"),
    ],
)
def test_what_is_live_is_said_for_each_step(step: str, phase: Phase | None, said: str) -> None:
    told = tell_left(before(), killed_in(step), phase)
    assert said in told
    assert told.endswith(GOES_ON)


def test_one_that_changed_nothing_and_one_that_was_undoing_say_so() -> None:
    assert tell_left(before(), Steps(["preflight", "pg_restore"], ["preflight"]), Phase.NOT_YET) == (
        "nothing of shop was changed by then. Hint: `ops rollback 1f3a9c0b` begins again"
    )
    undoing = Steps([*OF_ALL[:5], *UNDOES[:2]], [*OF_ALL[:4], *UNDOES[:1]])
    assert tell_left(before(), undoing, Phase.NOT_YET) == (
        "a step had failed, and it was undoing what was done (swap_databases_again). shop is still the database of the "
        f"upgrade. odoo is stopped. {GOES_ON}"
    )


@pytest.mark.parametrize(
    ("phase", "steps", "said"),
    [
        (
            Phase.SWAPPED,
            Steps(["preflight"], []),
            "it had changed nothing itself by then. shop is the previous database",
        ),
        (
            Phase.SWAPPED,
            killed_in("stop_odoo"),
            "done: swap_databases; left: stop_odoo, code_of_before, count_again, swap_f",
        ),
        (
            Phase.SETTLED,
            Steps(["rebuild_assets"], []),
            "code_kept; left: rebuild_assets, start_odoo, wait_health. shop",
        ),
    ],
)
def test_second_rollback_that_is_killed_names_the_database_that_the_first_one_put_in_place(
    phase: Phase, steps: Steps, said: str
) -> None:
    told = tell_left(before(), steps, phase)
    assert said in told
    assert "shop is the previous database, and that of the upgrade is kept as ops_broken_" in told
    assert "odoo may be stopped" in told
    assert told.endswith(GOES_ON)


def test_one_that_was_killed_after_its_last_step_has_nothing_left() -> None:
    told = tell_left(before(), Steps(OF_ALL, OF_ALL), Phase.SETTLED)
    assert "wait_health; left: nothing. shop is the previous database" in told
    assert "odoo was started" in told


def test_steps_that_this_rollback_does_not_have_are_not_left() -> None:
    code = tell_left(before(begun=False, protection=None), killed_in("code_of_before", OF_CODE), None)
    assert (
        code == f"done: stop_odoo; left: code_of_before, keep_code, start_odoo, wait_health. odoo is stopped. {GOES_ON}"
    )
    without = COPY.model_copy(update={"filestore": False})
    assert "swap_filestores" not in tell_left(before(protection=without), killed_in("all_in_place"), Phase.SWAPPED)
