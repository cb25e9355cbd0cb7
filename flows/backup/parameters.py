"""The parameters that runbooks about backups share. Their descriptions stand in the docstrings of the flows."""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import AfterValidator, Field

from flows.backup.folder import FETCHED
from flows.backup.names import DATABASE_PATTERN

T = TypeVar("T")

# Every absolute path without `..`, `.` or an empty part. Patterns hold no lookahead: pydantic's engine has none.
_FOLDER_PATTERN = r"^(/\.?[A-Za-z0-9_@+=,~-][A-Za-z0-9_@+=,~.-]*)+/?$"
# A dump's own name: a database's, and a time.
_FILE_PATTERN = rf"{DATABASE_PATTERN.removesuffix('$')}_[0-9]{{8}}T[0-9]{{6}}Z\.dump$"


def _not_maintenance(database: str) -> str:
    # A dump of `postgres` is what one gets by leaving out the name; the templates hold nobody's data.
    if database in ("postgres", "template0", "template1"):
        raise ValueError(f"{database} holds no Odoo data: name an Odoo database")
    return database


def each_once(items: list[T]) -> list[T]:
    """Raises ValueError for a list that names something twice, which would be done twice."""
    if twice := sorted({str(item) for item in items if items.count(item) > 1}):
        raise ValueError(f"{', '.join(twice)} stands there twice: name each once")
    return items


def _not_fetched(folder: str) -> str:
    if any(FETCHED.fullmatch(part) for part in folder.split("/")):
        raise ValueError("a folder of that name is removed with the run that fetched a backup into it: name another")
    return folder


OdooDatabase = Annotated[
    str, Field(pattern=DATABASE_PATTERN, min_length=1, max_length=63), AfterValidator(_not_maintenance)
]
OdooDatabases = Annotated[
    list[OdooDatabase],
    Field(min_length=1, max_length=100, json_schema_extra={"uniqueItems": True}),
    AfterValidator(each_once),
]
RetentionDays = Annotated[int, Field(ge=1, le=3650)]
BackupFile = Annotated[str, Field(pattern=_FILE_PATTERN, max_length=100)]
"""A backup by its file's own name."""
BackupOrDatabase = Annotated[str, Field(pattern=rf"{_FILE_PATTERN}|{DATABASE_PATTERN}", max_length=100)]
"""A backup by its file's own name, which ends in `.dump`; or a database, whose newest good backup is meant."""
BackupFolder = Annotated[str, Field(pattern=_FOLDER_PATTERN, max_length=1024), AfterValidator(_not_fetched)]
RoleName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}$")]
RolesInstead = Annotated[dict[RoleName, RoleName], Field(max_length=1000)]
