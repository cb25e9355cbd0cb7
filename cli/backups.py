"""The commands about backups: what there is, how old, what proves it, and who signed it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text
from typer.core import TyperGroup

from cli import backup_keys
from cli.backup_nights import nights
from cli.backup_signing import sign
from cli.columns import Columns
from cli.known_names import check_about
from cli.options import DatabaseArgument, FolderOption, JsonOption, folder_of_backups
from cli.text import errors, print_json, safe_line, say, show
from flows.backup.folder import Folder
from flows.backup.keyring import Signature, room_keyring
from flows.backup.repository import Backup, Repository
from flows.offsite.owner import NotOursError
from opsdb.amounts import seconds, size
from opsdb.errors import OpsError, UsageError
from opsdb.near_names import did_you_mean
from opsdb.runs.backups import CopyMade, Drill, copies_made, last_drills
from opsdb.runs.lookup import reading, short_id
from opsdb.settings import Settings, load_settings

if TYPE_CHECKING:
    from flows.offsite.target import Target


def register(app: typer.Typer) -> None:
    """Add the commands."""
    backups = typer.Typer(help=_HELP, cls=_ListsByDefault, no_args_is_help=False, subcommand_metavar="[COMMAND]")
    backups.command("list")(list_)
    backups.command("nights")(nights)
    backups.command("sign")(sign)
    backup_keys.register(backups)
    app.add_typer(backups, name="backups", rich_help_panel="Runs")


class _ListsByDefault(TyperGroup):
    """`ops backups odoo_prod` is `ops backups list odoo_prod`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or args[0] not in {*self.commands, *ctx.help_option_names}:
            args = ["list", *args]
        return super().parse_args(ctx, args)


_HELP = """Backups: what there is, who signed it, and on how many nights it was fresh.

Without a command it lists them, with the arguments and options of `ops backups list`.

Example: ops backups odoo_prod --check
"""


@dataclass(frozen=True)
class Record:
    """What the room's own record says of backups, by the dump's file name."""

    drills: Mapping[str, Drill] = field(default_factory=dict)
    copies: Mapping[str, Sequence[CopyMade]] = field(default_factory=dict)


def list_(
    database: DatabaseArgument = None,
    *,
    folder: FolderOption = None,
    target: Annotated[
        str | None, typer.Option("--target", metavar="BLOCK", help="The copies at the target of this block instead.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Read all bytes, and compare them with their sha256.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List the backups in the folder, the newest first: how old, how large, what proves each, and where copies are.

    The size is that of all files of a backup, and not of its dump alone.

    Works without a room, which then cannot say which backups were restored or copied. `--target` asks the target itself
    what is there, and needs Prefect, which holds the block. Exit code 1 where `--check` finds one that is not good.

    Example: ops backups list odoo_prod --check
    """
    settings = load_settings()
    if folder is not None and target is not None:
        raise UsageError("either --dir or --target: a copy is in no folder of this host")
    record, now = _recorded(settings), datetime.now(UTC)
    known = record or Record()
    if target is not None:
        there = _target(settings, target)
        try:
            there.check_owner()
        except NotOursError as error:
            say(safe_line(f"These are another room's: {error.found}", width=500), to=errors)
        where, repository = there.store.place, there.repository
    else:
        at = folder_of_backups(folder, settings)
        where, repository = str(at), Folder(at, room_keyring(settings))
    documents = [document(one, known, now=now, check=check) for one in _newest_first(repository, database)]
    others = set[str]()
    if database is not None and not documents:
        others = {one.name.database for one in repository.backups()}
        check_about(database, settings, what="DATABASE", also=others)
    if as_json:
        print_json(documents)
    elif documents:
        say(safe_line(where, width=1000))
        show(_table(documents, recorded=record is not None))
        if database is not None and documents[0]["good"]:
            given = [
                f"odoo_db={database}_{now:%Y%m%d_%H%M}",  # nobody has one of that name
                f"backup={documents[0]['file']}",
            ]
            given += [f"target={target}"] * bool(target) + [f"backup_dir={where}"] * (folder is not None)
            words = [word for pair in given for word in ("-p", pair)]
            say(f"Restore the newest: {shlex.join(['ops', 'run', 'odoo_db_restore', *words, '--wait'])}")
    else:
        to = f" -p target={target}" if target else ""
        of = f" of {database}" if database else ""
        made = f"ops run odoo_db_backup -p odoo_db={database or 'NAME'}{to}"
        meant = did_you_mean(database or "", others)
        say(safe_line(f"No backups{of} in {where}.{meant or f' Make one: {made}'}", width=1000), to=errors)
    if check and not all(one["good"] for one in documents):
        raise typer.Exit(1)


def document(backup: Backup, record: Record, *, now: datetime, check: bool) -> dict[str, Any]:
    """What is known of a backup. `good` is whether its own files verify it: with `check` every byte, else sizes."""
    name, manifest = backup.name, backup.manifest
    wrong = backup.fault(read_bytes=check)
    companions = manifest.companions if manifest else []
    drill = record.drills.get(name.dump)
    return {
        "database": name.database,
        "file": name.dump,
        "path": backup.url,
        "created_at": name.created_at,
        "age_seconds": max(0.0, round((now - name.created_at).total_seconds(), 1)),
        "size_bytes": backup.size_bytes + sum(one.size_bytes for one in companions),
        "good": wrong is None,
        "wrong": wrong,
        "signature": backup.signature,
        "bytes_checked": check and manifest is not None,
        "made_by_run": manifest.run_id if manifest else None,
        "tables": manifest.tables if manifest else None,
        "rows": manifest.contents.rows if manifest and manifest.contents else None,
        "other_files": [one.file for one in companions],
        "restored_at": drill.at if drill else None,
        "restored_by_run": drill.run_id if drill else None,
        "restore_seconds": drill.seconds if drill else None,
        "copies": [
            {"target": one.target, "url": one.url, "verified_at": one.verified_at, "verified_by_run": one.run_id}
            for one in record.copies.get(name.dump, [])
        ],
    }


def _newest_first(repository: Repository, database: str | None) -> list[Backup]:
    """Of each database."""
    found = repository.backups(database)
    return sorted(found, key=lambda one: (one.name.database, -one.name.created_at.timestamp()))


def _target(settings: Settings, target: str) -> Target:
    from deployments.server import access

    access.use(settings)
    from flows.offsite.target import load_target

    return load_target(target, room_keyring(settings))


def _recorded(settings: Settings) -> Record | None:
    try:
        with reading(settings) as db:
            return Record(drills=last_drills(db), copies=copies_made(db))
    except OpsError as error:
        what = safe_line(str(error), width=300)
        say(f"Which were restored or copied is not known: {what}", to=errors)
        return None


def _table(documents: list[dict[str, Any]], *, recorded: bool) -> Columns:
    """A line for each backup."""
    table = Columns.of("file", ">age", ">all files", "verification")
    copies = any(one["copies"] for one in documents)
    for one in documents:
        copied = _copied(one["copies"]) if copies else []
        told = [_verdict(one), _restored(one, recorded=recorded), *copied]
        table.add(one["file"], _age(one["age_seconds"]), size(one["size_bytes"]), Text("; ").join(told))
    return table


def _restored(one: dict[str, Any], *, recorded: bool) -> Text:
    at, took = one["restored_at"], one["restore_seconds"]
    if not at:
        return Text("never restored" if recorded else "restored: not known", style="dim")
    how_long = "" if took is None else f", in {seconds(took)}"
    return Text(f"restored {at:%Y-%m-%d %H:%M} by {short_id(one['restored_by_run'])}{how_long}")


def _copied(copies: list[dict[str, Any]]) -> list[Text]:
    return [Text("copied nowhere", style="yellow")] * (not copies) + [
        Text(f"copied to {one['target']} {one['verified_at']:%Y-%m-%d %H:%M} by {short_id(one['verified_by_run'])}")
        for one in copies
    ]


def _verdict(one: dict[str, Any]) -> Text:
    if not one["good"]:
        return Text(one["wrong"], style="bold red")
    checked = ", all bytes read" if one["bytes_checked"] else ""
    counted = f", {one['rows']} rows hashed" if one["rows"] is not None else ""
    verdict = Text(f"when made{counted}{checked}", style="green")
    if one["signature"] == Signature.UNSIGNED:
        verdict.append("; unsigned", style="yellow")
    elif one["signature"] == Signature.UNKNOWN_KEY:
        verdict.append("; signed with an unknown key", style="yellow")
    return verdict


def _age(age_seconds: float) -> str:
    days = int(age_seconds // 86400)
    return f"{days} d {int(age_seconds % 86400 // 3600)} h" if days else seconds(age_seconds)
