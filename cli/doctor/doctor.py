"""`ops doctor`: what is wrong with this room, and what to do."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from blocks.check import Check
from cli.doctor.checks import Area, Finding, presentable, run_checks
from cli.options import JsonOption
from cli.text import console, print_json
from opsdb.errors import OpsError, UsageError
from opsdb.settings import Settings, load_settings

CHECK_SECONDS = 20.0
"""Longer than the slowest test of a block."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel="The room")(doctor)


def doctor(
    *,
    block: Annotated[
        str | None, typer.Option("--block", metavar="TYPE/NAME", help="Test this block alone, as in odoo-host/prod.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Look at everything that the room stands on, and say what to do about what is wrong. Nothing is changed.

    Exit code 0: all is well, 1: something needs doing, also when no room runs.

    Example: ops doctor --block odoo-host/prod
    """
    findings = examine(block)
    if as_json:
        lines = [{"area": one.area, **asdict(one.check), "ok": one.check.ok} for one in findings]
        print_json({"ok": all(one.check.ok for one in findings), "checks": lines})
    else:
        console.print(findings_table(findings))
        console.print(summary(findings), highlight=False)
    raise typer.Exit(0 if all(one.check.ok for one in findings) else 1)


def examine(block: str | None = None) -> list[Finding]:
    """What all checks found, or the test of one block. Raises UsageError for a block that is not there."""
    try:
        settings = load_settings()
    except UsageError as error:
        advice = "correct it; nothing else can be looked at before"
        return presentable([Finding("settings", Check("settings", str(error), advice))], secrets=[])
    from cli.doctor.host import known_secrets
    from deployments.server import access

    with suppress(OpsError):  # what is wrong with the secrets is a finding
        access.use(settings)  # before anything imports Prefect
    from cli.doctor.blocks import check_blocks

    if block is not None:
        found = [Finding("blocks", check) for check in check_blocks(settings, block)]
    else:
        found = run_checks(all_areas(settings), seconds=CHECK_SECONDS)
    return presentable(found, secrets=known_secrets(settings))


def all_areas(settings: Settings) -> list[Area]:
    """Everything that is checked, in the order in which it is shown."""
    from cli.doctor import database, host, room
    from cli.doctor.blocks import check_blocks
    from deployments.room.report import current_report

    here = [
        Area("settings", lambda: host.check_settings(settings, os.environ)),
        Area("secrets", lambda: host.check_secrets_file(settings)),
        Area("backups", lambda: host.check_backup_keys(settings)),
        Area("programs", lambda: host.check_programs(settings, lambda: room.kinds_tried(settings))),
        Area("drills", lambda: host.check_drills(settings)),
        Area("templates", lambda: host.check_templates(settings)),
        Area("alerts", lambda: room.check_orders(settings)),
        Area("disk", lambda: host.check_disks(settings)),
        Area("folders", lambda: host.check_folders(settings)),
        Area("room", lambda: room.check_room(settings)),
    ]
    if settings.embedded and current_report(settings.home) is None:
        return here  # of what is not started, each part would say so in its own words
    return [
        *here,
        Area("programs", lambda: host.check_pg_dump(settings)),
        Area("ops database", lambda: room.check_ops_database(settings)),
        Area("ops database", lambda: database.check_access(settings)),
        Area("ops database", lambda: database.check_locks(settings)),
        Area("prefect", lambda: room.check_prefect(settings)),
        Area("workers", lambda: room.check_workers(settings)),
        Area("runs", lambda: room.check_waiting(settings)),
        Area("sync", lambda: room.check_sync(settings)),
        Area("metrics", lambda: room.check_exporter(settings)),
        Area("alerts", lambda: room.check_alerts(settings)),
        Area("blocks", lambda: check_blocks(settings)),
    ]


def findings_table(findings: Sequence[Finding]) -> Table:
    """A line for each check; what is well is dimmed."""
    table = Table(box=None, pad_edge=False)
    table.add_column("area", no_wrap=True)
    table.add_column("what", overflow="fold")
    table.add_column("found", overflow="fold", ratio=3)
    table.add_column("what to do", overflow="fold", ratio=3)
    for one in findings:
        cells = (one.area, one.check.subject, one.check.found, one.check.advice)
        table.add_row(*(Text(cell) for cell in cells), style="dim" if one.check.ok else "bold red")
    return table


def summary(findings: Sequence[Finding]) -> Text:
    """How much there is to do, on one line."""
    wrong = sum(not one.check.ok for one in findings)
    well = len(findings) - wrong
    checks = "1 check" if well == 1 else f"{well} checks"
    if not wrong:
        return Text(f"All is well, by {checks}.", style="green")
    needs = "1 thing needs" if wrong == 1 else f"{wrong} things need"
    return Text(f"{needs} doing, {checks} {'is' if well == 1 else 'are'} well.", style="bold red")
