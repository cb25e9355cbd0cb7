"""What the room does itself around a dump's own text: before it is loaded, and after."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import psycopg

from flows.backup.archive import Archive, read_archive, use_list
from flows.backup.folder import OpenFiles
from flows.backup.manifest import Manifest
from flows.backup.postgres import Access, Connection, program_env
from flows.backup.programs import Programs
from flows.engine.active_run import current_run
from flows.restore.extensions import check_extensions, make_extensions, premade_schemas
from flows.restore.loader import is_superuser
from flows.restore.roles import needed_roles
from flows.restore.sandbox import CannotDrillHereError
from flows.restore.scratch import Scratch
from opsdb.errors import PreflightError, StepFailedError

_ROLE = re.compile(r'^CREATE ROLE (?:"((?:[^"]|"")+)"|([a-z_0-9$]+));$', re.MULTILINE)
_COMMENTS_LEFT_OUT = ("EXTENSION ", "EVENT TRIGGER ", "PUBLICATION ")
_OWN_OBJECTS = """
SELECT 'relation ' || c.oid::pg_catalog.regclass::text FROM pg_catalog.pg_class c
WHERE c.oid >= 16384 AND relnamespace <> 'pg_toast'::pg_catalog.regnamespace AND NOT EXISTS (
    SELECT FROM pg_catalog.pg_depend WHERE objid = c.oid AND deptype IN ('e', 'i', 'a', 'I'))
UNION ALL
SELECT 'function ' || p.oid::pg_catalog.regprocedure::text FROM pg_catalog.pg_proc p
WHERE p.oid >= 16384 AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend WHERE objid = p.oid AND deptype = 'e')
UNION ALL
SELECT 'event trigger ' || evtname FROM pg_catalog.pg_event_trigger t
WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_depend WHERE objid = t.oid AND deptype = 'e')
"""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A database that a dump can be loaded into, until close()."""

    access: Access
    archive: Archive
    left_out: tuple[str, ...] = ()
    _list: int | None = None

    @classmethod
    def unknown(cls, programs: Programs, server_version: str) -> Self:
        """In a dry run."""
        return cls(Access(programs, server_version, superuser=False, variables={}, password=""), Archive(()))

    @property
    def options(self) -> tuple[str, ...]:
        """Those of pg_restore by which it makes nothing that the room makes."""
        return () if self._list is None else ("--no-owner", "--no-privileges", f"--use-list={_path(self._list)}")

    def close(self) -> None:
        """Let go of the list for pg_restore."""
        if self._list is not None:
            os.close(self._list)


def known_roles(manifest: Manifest, files: OpenFiles) -> set[str]:
    """The names of all roles that the dump may name."""
    with Path(files.paths[manifest.file]).open("rb") as dump:
        found = {one.owner for one in read_archive(dump).entries if one.owner}
    if manifest.globals is not None and manifest.globals.file in files.paths:
        text = Path(files.paths[manifest.globals.file]).read_text(errors="surrogateescape")
        found |= {quoted.replace('""', '"') or plain for quoted, plain in _ROLE.findall(text)}
    found |= needed_roles(manifest)
    return {name for name in found if not name.startswith("pg_")}


def check_contents(server: Connection, archive: Archive, *, template: str | None) -> None:
    """The room may make what the dump needs of a superuser. Raises PreflightError, before anything is made."""
    if wanted := archive.of_superusers:
        named = ", ".join(one.title for one in wanted[:3]) + (", ..." if len(wanted) > 3 else "")
        raise PreflightError(
            f"the dump holds what only a superuser may make, which executes with all rights: {named}. Hint: if you "
            "trust whoever could write to that database, restore it by hand: docs/backups.md, Without the room"
        )
    if template is None:
        check_extensions(server, archive, superuser=is_superuser(server))


def check_template(server: Connection, template: str, manifest: Manifest) -> None:
    """A copy of it can be made, in the order of texts of the backup. Raises PreflightError."""
    row = server.execute(
        "SELECT datistemplate OR pg_catalog.pg_has_role(datdba, 'MEMBER'), pg_catalog.pg_encoding_to_char(encoding),"
        " datcollate, datctype FROM pg_catalog.pg_database WHERE datname = %s",
        (template,),
    ).fetchone()
    if row is None:
        raise PreflightError(f"there is no database {template!r} to begin with: correct template, or leave it empty")
    if not row[0]:
        raise PreflightError(
            f"role {server.info.user!r} may not copy {template!r}. Hint: ALTER DATABASE {template} IS_TEMPLATE true"
        )
    locale = manifest.locale
    if locale and (wanted := (locale.encoding, locale.collate, locale.ctype)) != row[1:]:
        raise PreflightError(
            f"{template!r} has encoding and order {row[1:]}, and the backup {wanted}: make it the same"
        )


def prepare(scratch: Scratch, dump: str, manifest: Manifest, *, programs: Programs, thrown_away: bool) -> Prepared:
    """Make the scratch database and all that is not made as the dump words it.

    Raises StepFailedError and PreflightError; CannotDrillHereError where that is only so on a server of its own.
    """
    try:
        return _prepared(scratch, dump, manifest, programs)
    except (StepFailedError, PreflightError) as error:
        if not thrown_away:
            raise
        raise CannotDrillHereError(
            f"cannot be drilled here: {error}. Hint: OPS_DRILL_ON_SERVER has drills on the databases' own server"
        ) from error


def _prepared(scratch: Scratch, dump: str, manifest: Manifest, programs: Programs) -> Prepared:
    with Path(dump).open("rb") as file:
        archive = read_archive(file)
    scratch.make()
    with scratch.connect() as db, scratch.connect_to_load() as login:
        try:
            if scratch.template:
                _check_empty(db, scratch.template)
            check_contents(db, archive, template=scratch.template)
            make_extensions(db, archive, manifest.extensions or (), owner=login.info.user)
        except psycopg.Error as error:
            raise StepFailedError(f"cannot make the extensions of the dump: {str(error).strip()}") from error
        access = Access(
            programs=programs,
            server_version=db.info.parameter_status("server_version") or "",
            superuser=False,
            variables=program_env(login),
            password=login.info.password,
        )
    premade = premade_schemas(archive)
    made = [one for one in archive.of("SCHEMA") if one.name in premade]
    made += archive.of("EXTENSION") + [one for one in archive.of("COMMENT") if one.name.startswith(_COMMENTS_LEFT_OUT)]
    left_out = tuple(one.title for one in archive.apart)
    if left_out:
        told = (
            "only a superuser may make these, and they are left out: look at what they execute, and make them by hand"
        )
        current_run().event(told, level="warning", left_out=list(left_out))
    skipped = {one.id for one in (*made, *archive.apart)}
    prepared = Prepared(access, archive, left_out)
    return replace(prepared, _list=_in_memory(use_list([one for one in archive.entries if one.id not in skipped])))


def _check_empty(db: Connection, template: str) -> None:
    if own := [str(name) for (name,) in db.execute(_OWN_OBJECTS.encode()).fetchall()]:
        raise PreflightError(
            f"the template {template!r} holds more than extensions: {', '.join(own[:3])}. Hint: make one with "
            "CREATE DATABASE ... TEMPLATE template0, and nothing but extensions in it"
        )


def _in_memory(text: bytes) -> int:
    handle = os.memfd_create("toc")
    os.write(handle, text)
    return handle


def _path(handle: int) -> str:
    return f"/proc/{os.getpid()}/fd/{handle}"
