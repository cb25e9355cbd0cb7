"""What the files of a backup are called."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

# No leading dash, dot or slash, and none of `=`, `:`, `/` or whitespace: pg_dump reads connection strings in --dbname.
# At most 63 bytes, PostgreSQL's limit.
DATABASE_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}$"

_TIME_FORMAT = "%Y%m%dT%H%M%SZ"
_NAME = re.compile(rf"({DATABASE_PATTERN.strip('^$')})_([0-9]{{8}}T[0-9]{{6}}Z)\.dump")


@dataclass(frozen=True, slots=True)
class BackupName:
    """The names that belong to one backup: its database, and the second (UTC) in which it began."""

    database: str
    created_at: datetime

    @property
    def dump(self) -> str:
        """The dump's own name, which is there only when the dump is whole and its manifest is written."""
        return f"{self.database}_{self.created_at.astimezone(UTC).strftime(_TIME_FORMAT)}.dump"

    @property
    def manifest(self) -> str:
        """The manifest's."""
        return f"{self.dump}.json"

    @property
    def partial(self) -> str:
        """The dump's while it is written."""
        return partial_of(self.dump)

    @property
    def manifest_partial(self) -> str:
        """The manifest's while it is written."""
        return partial_of(self.manifest)

    @property
    def globals(self) -> str:
        """That of the roles and their settings."""
        return f"{self.dump}.globals.sql"

    @property
    def filestore(self) -> str:
        """That of Odoo's attachments."""
        return f"{self.dump}.filestore.tar.gz"

    @property
    def companions(self) -> tuple[str, ...]:
        """The files that a backup may have besides its dump and its manifest."""
        return (self.globals, self.filestore)


def partial_of(name: str) -> str:
    """What a file with this name is called while it is written."""
    return f".{name}.partial"


def parse_name(dump: str) -> BackupName | None:
    """The database and time of a dump's own name, or None for a name that is not ours.

    The time has a fixed width, so `odoo_prod_20250101T000000Z.dump` is of `odoo_prod` and of no other database.
    """
    match = _NAME.fullmatch(dump)
    if match is None:
        return None
    try:
        created_at = datetime.strptime(match[2], _TIME_FORMAT).replace(tzinfo=UTC)
    except ValueError:  # such as a month 13
        return None
    name = BackupName(match[1], created_at)
    return name if name.dump == dump else None


def parse_partial(partial: str) -> BackupName | None:
    """The same for the name of a dump that is being written."""
    if not (partial.startswith(".") and partial.endswith(".partial")):
        return None
    return parse_name(partial.removeprefix(".").removesuffix(".partial"))
