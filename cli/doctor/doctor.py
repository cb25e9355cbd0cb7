"""`ops doctor`: what is wrong with this room, and what to do."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from blocks.check import Check
from cli.columns import Columns
from cli.doctor.checks import Area, Finding, presentable, run_checks
from cli.options import JsonOption
from cli.text import print_json, show
from opsdb.errors import OpsError, UsageError
from opsdb.settings import Settings, load_settings

CHECK_SECONDS = 32.0
"""Longer than the tests of the blocks, with what it takes to read them."""


@dataclass(frozen=True)
class Examination:
    """What the checks found, and which areas were left out because they are about a room that runs."""

    findings: Sequence[Finding]
    skipped: Sequence[str] = ()

    @property
    def ok(self) -> bool:
        """Whether no check found a problem."""
        return all(one.check.ok for one in self.findings)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel="The room")(doctor)


def doctor(
    *,
    block: Annotated[
        str | None, typer.Option("--block", metavar="TYPE/NAME", help="Test this block alone, as in odoo-host/prod.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="List the checks that passed, too.")] = False,
    days: Annotated[
        bool, typer.Option("--checklist", help="The five days from an empty host to production: what is done.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Look at everything that the room stands on, and say what to do about what is wrong. Nothing is changed.

    Problems come first, each with what to do. Checks that passed are counted at the end, and listed with --all. While
    the room does not run, what is about its parts is skipped, and named.

    With --checklist it shows instead how far this room is on its way to production, line by line: what proves that it
    is done, or the command that does it.

    Exit code 0: no problem, 1: a problem was found, or no room runs.

    Example: ops doctor --block odoo-host/prod
    """
    if days and (block is not None or every):
        raise UsageError("--checklist goes with neither --block nor --all: it lists its lines, all of them")
    examined = examine(block, days=days)
    findings = examined.findings
    if days:
        _show_days(findings, as_json=as_json)
    elif as_json:
        lines = [{"area": one.area, **asdict(one.check), "ok": one.check.ok} for one in findings]
        print_json({"ok": examined.ok, "checks": lines, "skipped": examined.skipped})
    else:
        show(problems(findings))
        if every:
            show(passed(findings))
        show(summary(examined, listed=every))
    raise typer.Exit(0 if examined.ok else 1)


def _show_days(findings: Sequence[Finding], *, as_json: bool) -> None:
    from cli.doctor.checklist import as_document, checklist

    if as_json:
        print_json(as_document(findings))
    else:
        show(checklist(findings))


def examine(block: str | None = None, *, days: bool = False) -> Examination:
    """What all checks found, or the test of one block, or the lines of the checklist.

    Raises UsageError for a missing block.
    """
    try:
        settings = load_settings()
    except UsageError as error:
        advice = "correct it; nothing else can be looked at before"
        return Examination(presentable([Finding("settings", Check("settings", str(error), advice))], secrets=[]))
    from deployments.server import access

    with suppress(OpsError):  # what is wrong with the secrets is a finding
        access.use(settings)  # before anything imports Prefect
    from cli.doctor.blocks import check_blocks
    from cli.doctor.host import known_secrets

    skipped: list[str] = []
    if days:
        from cli.doctor import checklist
        from cli.doctor.days import DAYS

        found = run_checks(checklist.areas(DAYS, settings), seconds=CHECK_SECONDS)
    elif block is not None:
        found = [Finding("blocks", check) for check in check_blocks(settings, block)]
    else:
        from deployments.room.report import current_report

        areas, of_room = areas_of_host(settings), areas_of_room(settings)
        if settings.embedded and current_report(settings.home) is None:
            skipped = [one.name for one in of_room]  # of what is not started, each would say so in its own words
        else:
            areas += of_room
        found = run_checks(areas, seconds=CHECK_SECONDS)
    return Examination(presentable(found, secrets=known_secrets(settings)), skipped)


def areas_of_host(settings: Settings) -> list[Area]:
    """What is checked whether or not the room runs, in the order in which it is shown."""
    from cli.doctor import host, room

    return [
        Area("settings", lambda: host.check_settings(settings, os.environ)),
        Area("secrets", lambda: host.check_secrets_file(settings)),
        Area("backups", lambda: host.check_backup_keys(settings)),
        Area("programs", lambda: host.check_programs(settings, lambda: room.kinds_tried(settings))),
        Area("drills", lambda: host.check_drills(settings)),
        Area("templates", lambda: host.check_templates(settings)),
        Area("own runbooks", lambda: host.check_own_runbooks(settings)),
        Area("alerts", lambda: room.check_orders(settings)),
        Area("disk", lambda: host.check_disks(settings)),
        Area("folders", lambda: host.check_folders(settings)),
        Area("room", lambda: room.check_room(settings)),
    ]


def areas_of_room(settings: Settings) -> list[Area]:
    """What is checked of a room that runs, or whose database is elsewhere, in the order in which it is shown."""
    from cli.doctor import database, host, record, room
    from cli.doctor.blocks import check_blocks

    return [
        Area("programs", lambda: host.check_pg_dump(settings)),
        Area("ops database", lambda: room.check_ops_database(settings)),
        Area("ops database", lambda: database.check_access(settings)),
        Area("ops database", lambda: database.check_locks(settings)),
        Area("record", lambda: record.check_old(settings)),
        Area("prefect", lambda: room.check_prefect(settings)),
        Area("workers", lambda: room.check_workers(settings)),
        Area("runs", lambda: room.check_waiting(settings)),
        Area("sync", lambda: room.check_sync(settings)),
        Area("metrics", lambda: room.check_exporter(settings)),
        Area("alerts", lambda: room.check_alerts(settings)),
        Area("blocks", lambda: check_blocks(settings)),
    ]


def problems(findings: Sequence[Finding]) -> Group:
    """What is wrong, each with what to do below it; commands are on one line."""
    lines: list[RenderableType] = []
    for one in findings:
        if not one.check.ok:
            lines.append(Text(f"{one.area}, {one.check.subject}: {one.check.found}", style="bold red"))
            lines.append(Text("  do: ").append(one.check.advice))
    for line in lines:
        if isinstance(line, Text):
            line.no_wrap, line.overflow = True, "ignore"
    return Group(*lines)


def passed(findings: Sequence[Finding]) -> Columns:
    """A line for each check that passed."""
    table = Columns.of("area", "what", "found")
    for one in findings:
        if one.check.ok:
            table.add(one.area, one.check.subject, one.check.found, style="dim")
    return table


def summary(examined: Examination, *, listed: bool) -> Text:
    """How much there is to do, how many checks passed, and how many were skipped and why, each by area."""
    wrong = sum(not one.check.ok for one in examined.findings)
    passed = Counter(one.area for one in examined.findings if one.check.ok)
    text = Text(
        f"{wrong} problem{'' if wrong == 1 else 's'}, {_count(passed)} passed", style="bold red" if wrong else "green"
    )
    if passed and not listed:
        text.append(": ").append(f"{_by_area(passed)}; --all lists them", style="not bold dim")
    if skipped := Counter(examined.skipped):
        text.append(f"\n{_count(skipped)} skipped, because the room does not run: ", style="yellow")
        text.append(_by_area(skipped), style="not bold dim")
    return text


def _count(checks: Counter[str]) -> str:
    return "1 check" if checks.total() == 1 else f"{checks.total()} checks"


def _by_area(checks: Counter[str]) -> str:
    return ", ".join(f"{area} {count}" for area, count in checks.items())
