"""Runbooks whose steps write down every effect they have, in a ledger that only the tests read."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from flows.engine.active_run import current_run
from flows.engine.approval import approval
from flows.engine.postponement import postpone
from flows.engine.put_back import (
    BEFORE_THE_FIRST,
    Account,
    broken_off,
    put_back,
    put_back_shell,
    put_back_unless_done,
)
from flows.engine.runbook import runbook
from flows.engine.step import action, step
from opsdb.errors import PreflightError, StepFailedError

ALONE_SECONDS = 10
"""The deadline of `alone`."""
Manner = Literal["ticking", "quiet", "printing", "stubborn", "escaping", "held"]

TICK = 'echo "$1 $OPS_RUN_ID $ATTEMPT $EPOCHREALTIME" >> "$LEDGER"'
COMMANDS: dict[Manner, str] = {
    "ticking": "note begin; for ((i = 0; i < TENTHS; i += 2)); do note tick; sleep 0.2; done; note end",
    "quiet": 'note begin; sleep "$((TENTHS / 10)).$((TENTHS % 10))"; note end',
    "printing": "note begin; for ((i = 0; i < TENTHS; i++)); do note tick; echo line $i; sleep 0.1; done; note end",
    "stubborn": "trap '' TERM; note begin; for ((i = 0; i < TENTHS; i += 2)); do note tick; sleep 0.2; done; note end",
    "held": 'note begin; while [ -e "$LEDGER.hold" ]; do note tick; sleep 0.2; done; note end',
    # a grandchild that forked twice, left the session and ignores TERM, and goes on by itself
    "escaping": "trap '' TERM; note begin; (setsid bash -c 'trap \"\" TERM; while :; do "
    'echo "tick $OPS_RUN_ID $ATTEMPT $EPOCHREALTIME" >> "$LEDGER"; sleep 0.2; done\' > /dev/null 2>&1 &); '
    "sleep $((TENTHS / 10)); note end",
}


def work(ledger: str, seconds: float, manner: Manner) -> dict[str, Any]:
    """One step that takes that long, between two short ones."""
    environment = {"LEDGER": ledger, "ATTEMPT": str(current_run().attempt), "TENTHS": str(int(seconds * 10))}
    note = f"note() {{ {TICK}; }}; "
    step("first", note + "note first", timeout=30, env=environment)
    step("work", note + COMMANDS[manner], timeout=600, env=environment)
    step("last", note + "note last", timeout=30, env=environment)
    return {"ledger": Path(ledger).name}


@runbook(deadline_seconds=600)
def once(ledger: str, seconds: float = 0, manner: Manner = "ticking") -> dict[str, Any]:
    """Work that is never repeated."""
    return work(ledger, seconds, manner)


@runbook(deadline_seconds=600, max_attempts=3)
def repeatable(ledger: str, seconds: float = 0, manner: Manner = "ticking") -> dict[str, Any]:
    """Work that may be tried three times."""
    return work(ledger, seconds, manner)


BLOCK = ("work", "last")


@runbook(deadline_seconds=600, max_attempts=2)
def leaving(ledger: str, seconds: float = 0, put_back_seconds: float = 0) -> dict[str, Any]:
    """Work that leaves something half done when it does not end well, which takes a while to put back."""
    environment = {"LEDGER": ledger, "ATTEMPT": str(current_run().attempt), "TENTHS": str(int(seconds * 10))}
    environment["SECONDS_MORE"] = str(put_back_seconds)
    note = f"note() {{ {TICK}; }}; "

    def clean() -> Account:
        command = note + 'note cleaning; sleep "$SECONDS_MORE"; note clean'
        put_back_shell("clean", command, env=environment, seconds=60)
        return Account("it was put back", {"clean": True})

    if broken_off(block=BLOCK, noted="first", output="first") is not None:
        put_back(clean, index=BEFORE_THE_FIRST, about="clean", seconds=60)
    life = current_run().life
    if life is not None and life.began_again_by_itself:
        raise StepFailedError("it is not repeated")
    step("first", note + "note first", timeout=30, env=environment)
    with put_back_unless_done(clean, about="clean", seconds=60):
        step("work", note + COMMANDS["ticking"], timeout=600, env=environment)
        step("last", note + "note last", timeout=30, env=environment)
    return {"ledger": Path(ledger).name}


@runbook(deadline_seconds=ALONE_SECONDS, exclusive="odoo_db")
def alone(ledger: str, odoo_db: str, seconds: float = 0, manner: Manner = "ticking") -> dict[str, Any]:
    """Work on a database that nothing else may work on meanwhile, to be over 10 s after it began."""
    return work(ledger, seconds, manner)


@runbook(deadline_seconds=600, exclusive="odoo_db")
def sharing(ledger: str, odoo_db: str, host: str, seconds: float = 0, manner: Manner = "ticking") -> dict[str, Any]:
    """Work on a database and on its host, which nothing else may work on meanwhile."""
    current_run().acquire(f"odoo_host:{host}")
    return work(ledger, seconds, manner)


@runbook(deadline_seconds=60, exclusive="odoo_db")
def asking(
    ledger: str, odoo_db: str = "asked", seconds: float = 600, fail_at: str = "", bound: bool = False
) -> dict[str, Any]:
    """Work that asks a person before its second part, and fails at a step while a file of that name is there.

    What fails at `build` is tried once more.
    """
    environment = {"LEDGER": ledger, "ATTEMPT": str(current_run().attempt), "STOP": fail_at}
    look = f'{TICK}; echo "$1 of attempt $ATTEMPT"; [ ! -e "$STOP.$1" ]'
    once = '[ ! -e "$STOP.once.$1" ] || { rm -- "$STOP.once.$1"; exit 1; }'
    hang = 'while [ -e "$STOP.hang.$1" ]; do sleep 0.1; done'

    def take(name: str, **options: Any) -> str:
        return step(name, f"set -- {name}; {look}; {once}; {hang}", timeout=30, env=environment, **options).stdout or ""

    def check() -> None:
        if Path(f"{fail_at}.check").exists():
            raise PreflightError("it is not there")

    action("check", check, about="look whether all is there", preflight=True)
    said = [take("prepare", must_run_again=bound)]
    counted = action("count", lambda: {"attempt": current_run().attempt}, about="count the attempts")
    try:
        said += [take("build")]
    except StepFailedError:
        said += [take("build")]
    if seconds:
        approval("ask", f"deploy {odoo_db}?", timeout=seconds)
    said += [take("deploy"), take("tell")]
    return {"said": said, "counted": counted}


@runbook(deadline_seconds=60)
def wondering(ledger: str) -> None:
    """Work that asks a person, whatever others do meanwhile."""
    environment = {"LEDGER": ledger, "ATTEMPT": str(current_run().attempt)}
    step("build", f"set -- build; {TICK}", timeout=30, env=environment)
    approval("ask", "deploy?", timeout=600)
    step("deploy", f"set -- deploy; {TICK}", timeout=30, env=environment)


@runbook(deadline_seconds=5)
def hasty(ledger: str, seconds: float = 0, manner: Manner = "ticking") -> dict[str, Any]:
    """Work that must be over within 5 s."""
    return work(ledger, seconds, manner)


@runbook(deadline_seconds=60, max_attempts=2)
def postponing(ledger: str, times: int = 1, seconds: float = 2) -> dict[str, Any]:
    """Work that ends its process in its first attempts, each time for so many seconds."""
    run = current_run()
    environment = {"LEDGER": ledger, "ATTEMPT": str(run.attempt)}
    step("look", f"set -- look; {TICK}", timeout=30, env=environment)
    if run.attempt <= times and run.clock is not None:
        postpone(run.clock() + timedelta(seconds=seconds), "it is not there yet")
    step("take", f"set -- take; {TICK}", timeout=30, env=environment)
    return {"attempt": run.attempt}
