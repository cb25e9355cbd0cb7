"""The commands about schedules: what the room starts by itself, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cli.completion import complete_schedules
from cli.options import JsonOption, storable
from cli.text import print_json, say
from opsdb.errors import UsageError
from opsdb.settings import Settings, load_settings

if TYPE_CHECKING:
    from cli.schedules.change import Change
    from deployments.server.schedules import RunbookSchedule

MOST_DAYS = 366

NameArgument = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="As `ops schedule list` shows it.",
        show_default=False,
        autocompletion=complete_schedules,
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    schedule = typer.Typer(help="What the room starts by itself, and when.", no_args_is_help=True)
    commands = (("list", list_), ("set", set_), ("reset", reset), ("override", override))
    for name, command in commands:
        schedule.command(name)(command)
    app.add_typer(schedule, name="schedule", rich_help_panel="Runs")


def list_(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Only this one.", show_default=False)] = None,
    *,
    days: Annotated[int, typer.Option(help=f"Days of the forecast, at most {MOST_DAYS}.")] = 14,
    as_json: JsonOption = False,
) -> None:
    """Show the schedules of all runbooks, and what they will start in the coming days.

    The forecast is what Prefect plans, also when clocks change, and names what blackouts keep back.

    Example: ops schedule list --days 3
    """
    if not 1 <= days <= MOST_DAYS:
        raise UsageError(f"--days {days}: expected 1 to {MOST_DAYS}")
    settings = _settings()
    from cli.schedules.room import open_schedules
    from cli.schedules.view import document, print_schedules
    from deployments.server.schedules import find_schedule

    with open_schedules(settings) as schedules:
        shown = [find_schedule(schedules.all, storable(name, what="NAME"))] if name else schedules.all
        documents = [document(one, schedules, days=days) for one in shown]
    if as_json:
        print_json(documents)
    else:
        print_schedules(documents, days=days, now=schedules.now)


def set_(
    name: NameArgument,
    *,
    at: Annotated[str | None, typer.Option(metavar="TIME", help="Time of the day, as in 03:30.")] = None,
    on: Annotated[
        str | None, typer.Option(metavar="DAYS", help="daily, weekdays, weekends, or days as in sun,wed.")
    ] = None,
    tz: Annotated[str | None, typer.Option(metavar="ZONE", help="Time zone, as in Asia/Manila.")] = None,
    cron: Annotated[str | None, typer.Option(metavar="CRON", help="Instead of --at and --on.")] = None,
    add_db: Annotated[
        list[str] | None, typer.Option("--add-db", metavar="DATABASE", help="Add a database; may be repeated.")
    ] = None,
    remove_db: Annotated[
        list[str] | None, typer.Option("--remove-db", metavar="DATABASE", help="Remove a database; may be repeated.")
    ] = None,
    params: Annotated[
        list[str] | None, typer.Option("--param", "-p", metavar="KEY=VALUE", help="A parameter of its runs.")
    ] = None,
    pause: Annotated[
        bool | None, typer.Option("--pause/--resume", help="Start nothing until it is resumed.", show_default=False)
    ] = None,
    catch_up: Annotated[
        str | None,
        typer.Option(metavar="RULE", help="For what comes too late: skip, 'once within 2h', or all."),
    ] = None,
    blackout: Annotated[
        list[str] | None,
        typer.Option(metavar="WINDOW", help="Start nothing in it: 'Fri 18:00 to Mon 06:00', or with dates."),
    ] = None,
    remove_blackout: Annotated[
        list[str] | None, typer.Option(metavar="WINDOW", help="Remove a window; may be repeated.")
    ] = None,
) -> None:
    """Change a schedule. All is checked before anything is written; what is not named stays.

    It holds until `ops schedule reset`: `ops deploy` leaves it.

    Example: ops schedule set nightly-backup --at 03:30 --tz Asia/Manila --add-db odoo_test
    """
    settings = _settings()
    from cli.schedules.change import apply_wish
    from cli.schedules.room import open_schedules
    from cli.schedules.wanted import Wish
    from deployments.server.schedules import find_schedule

    wish = Wish(
        at=at,
        on=on,
        tz=tz,
        cron=cron,
        add_db=tuple(add_db or ()),
        remove_db=tuple(remove_db or ()),
        params=tuple(params or ()),
        pause=pause,
        catch_up=catch_up,
        add_blackouts=tuple(blackout or ()),
        remove_blackouts=tuple(remove_blackout or ()),
    )
    if wish == Wish():
        raise UsageError("say what to change: see `ops schedule set --help`")
    with open_schedules(settings) as schedules:
        one = find_schedule(schedules.all, storable(name, what="NAME"))
        changes = apply_wish(settings, schedules, one, wish)
    _say_changes(settings, one, changes)


def reset(name: NameArgument) -> None:
    """Set a schedule to what prefect.yaml, or its template, says: times, parameters, pause, rules. Overrides go.

    Example: ops schedule reset nightly-backup
    """
    settings = _settings()
    from cli.schedules.change import reset_schedule
    from cli.schedules.room import open_schedules
    from deployments.server.schedules import find_schedule

    with open_schedules(settings) as schedules:
        one = find_schedule(schedules.all, storable(name, what="NAME"))
        changes = reset_schedule(settings, schedules, one)
    _say_changes(settings, one, changes)


def override(
    name: NameArgument,
    *,
    at: Annotated[
        str, typer.Option(metavar="TIME", help="A due time, or 'TIME to TIME', by the clocks of the schedule's zone.")
    ],
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; it is recorded with your name.")],
) -> None:
    """Let a schedule start within a blackout, once or for a while. It expires by itself.

    Example: ops schedule override nightly-backup --at 2026-12-25T02:00 --reason "month's close"
    """
    settings = _settings()
    from cli.schedules.change import make_override
    from cli.schedules.room import open_schedules
    from deployments.server.schedules import find_schedule

    with open_schedules(settings) as schedules:
        one = find_schedule(schedules.all, storable(name, what="NAME"))
        freed = make_override(
            settings, schedules, one, at=storable(at, what="--at"), reason=storable(reason, what="--reason")
        )
    times = ", ".join(f"{due:%a %Y-%m-%d %H:%M}" for due in freed[:5]) + (" ..." if len(freed) > 5 else "")
    say(f"{one.name} starts in spite of the blackout: {times} ({freed[0].tzinfo}).")


def _settings() -> Settings:
    """The settings, with which Prefect's modules find the room: they read theirs when they are loaded."""
    from deployments.server import access

    settings = load_settings()
    access.use(settings)
    return settings


def _say_changes(settings: Settings, one: RunbookSchedule, changes: list[Change]) -> None:
    from cli.schedules.room import open_schedules
    from cli.schedules.view import document, due_line, print_changes
    from deployments.server.planned import count_due
    from deployments.server.schedules import find_schedule

    if not changes:
        say(f"{one.name}: nothing to change.")
        return
    say(f"{one.name} changed:")
    print_changes(changes)
    with open_schedules(settings) as schedules:
        after = document(find_schedule(schedules.all, one.name), schedules, days=MOST_DAYS)
        due = count_due(schedules.client, one.deployment.id, one.id, now=schedules.now)
    if after["state"] != "active":
        say(f"It starts nothing: {after['state']}.")
    for time in after["forecast"][:3]:
        say(f"  next: {due_line(time)}")
    if due:
        say(
            f"{'1 run' if due == 1 else f'{due} runs'} of the times before {'is' if due == 1 else 'are'} due and "
            f"{'waits' if due == 1 else 'wait'} to start all the same: `ops runs --kind {one.kind} --status queued` "
            "lists what waits, `ops cancel RUN` ends one"
        )
