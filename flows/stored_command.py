"""The runbook `stored_command`: commands that an operator keeps as a prefect-shell block."""

from __future__ import annotations

import time
from typing import Annotated, Any

from prefect_shell import ShellOperation  # type: ignore[import-untyped]  # ships no types
from pydantic import Field

from blocks.fields import BlockName
from blocks.form_words import InWords
from flows.engine.active_run import current_run
from flows.engine.runbook import runbook
from flows.engine.step import action, step
from opsdb.errors import PreflightError

LONGEST_SECONDS = 3600
MARGIN_SECONDS = 60

StoredCommand = Annotated[
    BlockName, InWords("the name of a Shell Operation block: small letters, digits and dashes between them")
]
TimeoutSeconds = Annotated[int, Field(ge=1, le=LONGEST_SECONDS)]


@runbook(deadline_seconds=LONGEST_SECONDS + MARGIN_SECONDS, subject="${params.block} · stored command")
def stored_command(block: StoredCommand, timeout_seconds: TimeoutSeconds = 600) -> dict[str, Any]:
    """Run the commands of a Shell Operation block as one step, under the rules of a step and not of prefect-shell.

    **When to use it:** for commands that have no runbook of their own yet. A template is the better home for what is
    done again and again.

    **What it changes:** what its commands change, as the room's user on the worker's host.

    **What it needs:** a Shell Operation block, made in the Prefect UI under Blocks, and OPS_STORED_COMMANDS switched
    on.

    ```
    ops run stored_command -p block=rotate-logs --wait
    ```

    Args:
        block: Shell Operation block with the commands.
        timeout_seconds: Seconds after which the commands are stopped.
    """
    operation = action(
        "preflight", lambda: _load(block), about=f"load the block shell-operation/{block}", preflight=True
    )
    started = time.monotonic()
    step(
        "commands",
        "\n".join(operation.commands),
        timeout=timeout_seconds,
        env=operation.env,
        working_dir=operation.working_dir,
    )
    return {"exit_code": 0, "duration_seconds": round(time.monotonic() - started, 3)}


def _load(name: str) -> Any:
    if not current_run().settings.stored_commands:
        raise PreflightError(
            "stored commands are switched off: with OPS_STORED_COMMANDS=true whoever may edit Prefect blocks "
            "runs commands on this host as the room's user"
        )
    try:
        operation = ShellOperation.load(name)
    except ValueError as error:
        raise PreflightError(f"there is no Shell Operation block {name!r}: {error}") from error
    if operation.shell not in (None, "", "bash") or operation.extension:
        raise PreflightError(f"the block {name!r} is for shell {operation.shell!r}: a step runs in bash only")
    return operation
