"""`ops db backup`, `ops db restore`: the room itself in one sealed file, for another host or another day."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.options import JsonOption
from cli.text import clock, console, errors, lines, own_name, print_json, say, show
from opsdb.amounts import size
from opsdb.errors import UsageError
from opsdb.settings import Settings, load_settings

if TYPE_CHECKING:
    from cli.moving.archive import Manifest
    from cli.moving.outcome import Restored

PassphraseOption = Annotated[
    Path | None,
    typer.Option(
        "--passphrase-file",
        metavar="FILE",
        help="A file of mode 0600 with the passphrase in its first line. Default: standard input.",
    ),
]


def register(db: typer.Typer) -> None:
    """Add the commands."""
    for command in (backup, restore):
        db.command()(command)


def backup(
    *,
    to: Annotated[
        Path | None,
        typer.Option(
            "--to",
            metavar="FOLDER|FILE",
            help="Where to. Default: the folder room-backups in OPS_HOME.",
            show_default=False,
        ),
    ] = None,
    keep: Annotated[
        int | None,
        typer.Option(
            "--keep",
            min=1,
            metavar="N",
            help="Then delete older backups of this room from the folder, all but the newest N. Default: delete none.",
            show_default=False,
        ),
    ] = None,
    passphrase_file: PassphraseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Back up the room itself: the record, Prefect's database, its logins, and OPS_HOME with all secrets.

    The file is sealed with a passphrase of 16 characters or more, without which nobody can read it, and is read again
    before it gets its name. The room may run meanwhile. Backups of other databases and the output of steps are not in
    it.

    Example: ops db backup --to /mnt/safe --keep 14 --passphrase-file /etc/ops/room.passphrase
    """
    from cli.moving.backup import back_up, choose_path
    from cli.moving.old_backups import delete_old
    from cli.moving.passphrase import read_passphrase

    settings = load_settings()
    path = choose_path(settings, to)
    if keep is not None and to is not None and not to.is_dir():
        raise UsageError(f"--keep: {to} is one file. Hint: name a folder with --to, in which backups are kept")
    passphrase = read_passphrase(passphrase_file, new=True)
    with console.status("Backing up the room ..."):
        made = back_up(settings, path, passphrase)
        deleted = []
        if keep is not None:
            deleted = delete_old(path, passphrase, home=settings.home, keep=keep)
    manifest = made.manifest
    if as_json:
        document = {"file": made.path, "size_bytes": made.size_bytes, "verified": True, "deleted": deleted}
        print_json(document | manifest.model_dump(mode="json"))
        return
    show(lines([("file", str(made.path)), ("size", size(made.size_bytes)), *_rows(manifest)]))
    for old in deleted:
        say(f"Deleted: {old}")
    for name, why in manifest.left.items():
        say(f"Not in it: {name}, {why}", to=errors)
    if made.path.stat().st_dev == settings.home.stat().st_dev:
        say("It is on the disk of OPS_HOME: copy it to another host, and keep the passphrase elsewhere.", to=errors)


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file of `ops db backup`.", show_default=False)],
    *,
    passphrase_file: PassphraseOption = None,
    take_over: Annotated[
        bool,
        typer.Option(
            "--take-over",
            help="This room takes the old one's place: schedules and waiting runs continue here, and its targets "
            "become this room's. Without it, all lanes are paused.",
        ),
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Where a room is already: keep its files and databases under other names.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Verify the file, and say what would happen.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Restore the room from a file of `ops db backup`, into this OPS_HOME. No room may run in it.

    All of the file is verified before anything changes. It can be interrupted at any moment: the same command resumes
    it, and no room starts until it is done. Stop the old room for good before you give --take-over.

    Example: ops db restore room-alpha-20260101T020000Z.sealed --dry-run

    Example: ops db restore room-alpha-20260101T020000Z.sealed --take-over && ops up --detach
    """
    from cli.moving import restore as work
    from cli.moving.passphrase import read_passphrase

    settings, path = load_settings(), file.absolute()
    passphrase = read_passphrase(passphrase_file)
    if dry_run:
        with console.status("Verifying the backup ..."):
            done = work.verify(settings, path, passphrase, replace=replace, take_over=take_over)
    else:
        done = work.restore(
            settings,
            path,
            passphrase,
            replace=replace,
            take_over=take_over,
            tell=lambda line: say(f"{line} ...", style="dim", to=errors),
        )
    if as_json:
        print_json(_document(settings, done, dry_run=dry_run))
        return
    where = f"{' and '.join(done.databases)} on {done.server}"
    rows = [("backup", "verified" if dry_run else "restored"), ("into", str(settings.home)), ("databases", where)]
    show(lines([*rows, *_rows(done.manifest)]))
    if done.runs_here:
        say(f"A room runs in {settings.home}: stop it before the restore, with `{own_name()} down`.", to=errors)
    for name in done.put_aside:
        say(f"{'Would be put' if dry_run else 'Put'} aside: {name}")
    if dry_run and done.lacking:
        say(_lacking(done))
    for line in [] if dry_run else _next(done):
        say(line)


def _rows(manifest: Manifest) -> list[tuple[str, str]]:
    unfinished = ", ".join(f"{count} {status}" for status, count in manifest.unfinished.items())
    apart = f"the record at {clock(manifest.ops_snapshot_at)}, Prefect {manifest.apart_seconds * 1000:.0f} ms later"
    return [
        ("of", f"the room in {manifest.home} on host {manifest.host}{', which ran' if manifest.room_ran else ''}"),
        ("taken", apart),
        (
            "versions",
            f"ops {manifest.ops_version}, schema {manifest.schema_revision}, Prefect {manifest.prefect_version}, "
            f"PostgreSQL {manifest.server_version}",
        ),
        ("size of databases", f"{size(manifest.database_bytes)} on disk"),
        ("files", ", ".join(manifest.entries)),
        ("unfinished runs", unfinished or "none"),
    ]


def _next(done: Restored) -> list[str]:
    """What an operator does now, in order."""
    manifest, ops = done.manifest, own_name()
    found = []
    if done.kept_settings:
        found.append("The settings file of this host stays; that of the old room is ops.toml.before-move beside it.")
    if done.lacking:
        found.append(_lacking(done))
    found.append(f"Compare `{ops} settings` with the old host: addresses, OPS_SERVER_URL and ports may still name it.")
    if manifest.unfinished:
        found.append("Runs that ran then will fail here as lost, with an event that names their host: look there.")
    if done.take_over and manifest.room_ran:
        found.append(
            f"The old room ran when it was backed up, at {clock(manifest.ops_snapshot_at)}. What it has done since may "
            "be done here again. For a move, stop it first (`ops down`), then back it up."
        )
    if done.take_over:
        found.append(
            f"See that the old room is stopped and does not start at boot, then start this one: {ops} up --detach"
        )
        found.append(
            "Its next copy to a backup target makes that this room's; the old room is refused there from then on."
        )
    else:
        found.append(f"All lanes are paused: look around after `{ops} up --detach`, nothing is executed.")
        found.append(
            f"To work here, stop the old room for good, then `{ops} down` here, and restore again with --take-over "
            "--replace."
        )
    return found


def _lacking(done: Restored) -> str:
    return (
        f"The old room had from its environment, and here they are not set: {', '.join(done.lacking)}. Their values "
        "are not in the backup."
    )


def _document(settings: Settings, done: Restored, *, dry_run: bool) -> dict[str, Any]:
    return {
        "dry_run": dry_run,
        "home": settings.home,
        "take_over": done.take_over,
        "put_aside": done.put_aside,
        "server": done.server,
        "databases": done.databases,
        "runs_here": done.runs_here,
        "kept_settings": done.kept_settings,
        "lacking": done.lacking,
        "manifest": done.manifest.model_dump(mode="json"),
    }
