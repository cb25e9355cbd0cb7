"""`ops db`: the database of the record, what of it is old, and the logins that use it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table
from sqlalchemy import Connection, make_url
from sqlalchemy.exc import DBAPIError

from cli import db_backup
from cli.columns import Columns
from cli.options import JsonOption
from cli.roles import roles
from cli.text import console, errors, print_json, say, show
from opsdb.amounts import size
from opsdb.database import GONE, first_line
from opsdb.errors import OpsError, UsageError
from opsdb.logins import (
    LOGIN_ROLES,
    check_password,
    make_login,
    new_password,
    read_logins,
    remove_login,
    replace_password,
)
from opsdb.migrate import check_migrated
from opsdb.public_access import maintaining
from opsdb.rights import READING, SUPERSET
from opsdb.settings import Settings, load_settings

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="As in superset.", show_default=False)]
LONGEST_PASSWORD = 1024


def register(app: typer.Typer) -> None:
    """Add the commands."""
    db = typer.Typer(help="The ops database, its roles and their logins.", no_args_is_help=True)
    for command in (upgrade, roles, prune, login, logins):
        db.command()(command)
    db_backup.register(db)
    app.add_typer(db, name="db", rich_help_panel="The room")


def upgrade() -> None:
    """Make the roles and the schema `ops`, and run the migrations that are missing.

    A database that the room made itself is closed to logins that hold no right in it. Repeating it changes nothing.
    """
    from deployments.room.databases import upgrade_databases

    revision = upgrade_databases(load_settings())
    console.print(f"the schema ops stands at revision {revision}", markup=False)


def prune(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be deleted.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Delete what is old: runs that ended OPS_RETENTION_DAYS ago, here and in Prefect, and output of steps.

    It goes in small transactions, beside the room's work. It can be interrupted at any moment; the next pass continues.
    Runs that others build on stay, as those that prove a backup; docs/retention.md lists them. A room does this by
    itself once a day, unless OPS_PRUNE says otherwise.

    Example: ops db prune --dry-run
    """
    from deployments.prune.prune import prune as delete_old

    settings = load_settings()
    check_migrated(settings)
    with console.status("Looking for what is old ..." if dry_run else "Deleting what is old ..."):
        amounts = delete_old(settings, by="person", dry=dry_run)
    if as_json:
        print_json({"dry_run": dry_run, "deleted": amounts.document()})
        return
    if not amounts.count:
        say("Nothing is old enough to delete.")
        return
    table = Columns.of("what", ">would go" if dry_run else ">deleted", ">size", "oldest")
    for name, amount in amounts.by_name.items():
        if amount.count:
            oldest = f"{amount.oldest_at:%Y-%m-%d}" if amount.oldest_at else ""
            table.add(name, f"{amount.count:,}", size(amount.bytes), oldest)
    show(table)


def login(
    name: NameArgument,
    *,
    role: Annotated[
        str | None,
        typer.Option(
            "--role", metavar="ROLE", help=f"Whose rights it has: {', '.join(LOGIN_ROLES)}. Default: {SUPERSET.name}."
        ),
    ] = None,
    certificate: Annotated[
        bool, typer.Option("--certificate", help="It has no password, but a client certificate with its name.")
    ] = False,
    new: Annotated[bool, typer.Option("--new", help="Give an existing login a new password.")] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Remove it, and end its connections.")] = False,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from stdin in place of making one up.")
    ] = False,
) -> None:
    """Make a login of the ops database: one that reads, for Superset, n8n or a notebook, or one that writes.

    Its password is printed once, on stdout, and kept nowhere: the server has a hash. The embedded PostgreSQL admits
    only logins that read, at OPS_DATABASE_LISTEN; Supabase and workers on other hosts need a PostgreSQL of your own.
    `ops db roles` shows what each role may do, and `ops render pg-hba` admits logins to a server over TLS.

    Example: ops db login superset --role superset_ro

    Example: ops db login worker2 --role ops_writer --certificate

    Example: ops db login superset --new
    """
    if new + remove + (role is not None) > 1 or (remove and password_stdin):
        raise UsageError("--role makes a login, --new and --remove are for one that is there: choose one of them")
    if certificate and (new or remove or password_stdin):
        raise UsageError("--certificate makes a login without a password: leave out --new, --remove, --password-stdin")
    settings = load_settings()
    if remove:
        with _administering(settings) as db:
            remove_login(db, name)
        say(f"The login {name} is removed, and its connections are ended.")
        return
    role = role or SUPERSET.name
    if settings.embedded and not new:
        _check_comes_in(role, certificate=certificate)
    password = None if certificate else _read_password() if password_stdin else new_password()
    with _administering(settings) as db:
        if new and password is not None:
            replace_password(db, name, password=password)
        else:
            make_login(db, name, role=role, password=password)
    say(
        f"The login {name} has a new password." if new else f"The login {name} is made, with the role {role}.",
        to=errors,
    )
    if password is not None and not password_stdin:
        say("Its password, shown this once:", to=errors)
        sys.stdout.write(password + "\n")
    for line in _how_to_connect(settings, name, certificate=certificate):
        say(line, to=errors)


def logins(*, as_json: JsonOption = False) -> None:
    """List the logins that `ops db login` made, with their role, how they authenticate, and their connections.

    Example: ops db logins --json
    """
    with _administering(load_settings()) as db:
        found = read_logins(db)
    if as_json:
        print_json([asdict(one) for one in found])
        return
    if not found:
        say("No logins. `ops db login NAME` makes one.")
        return
    table = Table(box=None, pad_edge=False)
    for column in ("login", "role", "comes in by", "connections"):
        table.add_column(column, justify="right" if column == "connections" else "left")
    for one in found:
        table.add_row(one.name, ", ".join(one.roles), one.proof, str(one.connections))
    console.print(table)


@contextmanager
def _administering(settings: Settings) -> Iterator[Connection]:
    """One transaction as the login of the room itself. Raises OpsError that says which right is missing."""
    try:
        with maintaining(settings.ops_url, make_url(settings.ops_url).database or "") as db:
            yield db
    except GONE:
        raise
    except DBAPIError as error:
        raise OpsError(
            f"the server refused it: {first_line(error)}. Hint: the user of OPS_DATABASE_URL needs CREATEROLE, and the "
            "ADMIN option on the role, which it has where it made the role"
        ) from error


def _read_password() -> str:
    password = sys.stdin.readline(LONGEST_PASSWORD).removesuffix("\n")
    check_password(password)
    return password


def _check_comes_in(role: str, *, certificate: bool) -> None:
    """Raise UsageError for a login that the embedded PostgreSQL would never let in."""
    if role in LOGIN_ROLES and role not in READING:
        refused = f"--role: the embedded PostgreSQL admits only logins that read, and {role} writes"
    elif certificate:
        refused = "--certificate: the embedded PostgreSQL admits logins by their password alone"
    else:
        return
    raise UsageError(f"{refused}. Hint: use a PostgreSQL of your own, see docs/operating.md")


def _how_to_connect(settings: Settings, name: str, *, certificate: bool) -> list[str]:
    if settings.database_listen is not None:
        address = f"postgresql://{name}@{settings.database_listen}/ops?require_auth=scram-sha-256"
        return [f"It connects to {address}"]
    if settings.embedded:
        return [
            "The embedded PostgreSQL has a socket for the room alone: set OPS_DATABASE_LISTEN, as in 127.0.0.1:5433, "
            "and start the room again"
        ]
    proof = "@certificate" if certificate else ""
    line = f"`ops render pg-hba --set logins={name}@ADDRESS{proof}` writes such a line"
    return [f"It connects to the server of OPS_DATABASE_URL, as far as that server's pg_hba.conf lets it in: {line}"]
