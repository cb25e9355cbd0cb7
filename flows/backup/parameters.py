"""The parameters that runbooks about backups share. What each is for stands in the docstrings of the flows.

An optional text is empty when it was not given: the form has a plain field for it.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field

from blocks.fields import BlockName
from blocks.form_words import InWords, Offer, Offers, OrEmpty
from flows.backup.folder import FETCHED
from flows.backup.names import DATABASE_PATTERN

T = TypeVar("T")

# Every absolute path without `..`, `.` or an empty part. Patterns hold no lookahead: pydantic's engine has none.
_FOLDER_PATTERN = r"^(/\.?[A-Za-z0-9_@+=,~-][A-Za-z0-9_@+=,~.-]*)+/?$"
# A dump's own name: a database's, and a time.
_FILE_PATTERN = rf"{DATABASE_PATTERN.removesuffix('$')}_[0-9]{{8}}T[0-9]{{6}}Z\.dump$"


# A dump of `postgres` is what one gets by leaving out the name; the templates hold nobody's data.
_MAINTENANCE = ("postgres", "template0", "template1")


def _not_maintenance(database: str) -> str:
    if database in _MAINTENANCE:
        raise ValueError(f"{database} holds no Odoo data: name an Odoo database")
    return database


def each_once(items: list[T]) -> list[T]:
    """Raises ValueError for a list that names something twice, which would be done twice."""
    if twice := sorted({str(item) for item in items if items.count(item) > 1}):
        raise ValueError(f"{', '.join(twice)} appears twice: name each once")
    return items


def _not_fetched(folder: str) -> str:
    if any(FETCHED.fullmatch(part) for part in folder.split("/")):
        raise ValueError("a folder of that name is removed with the run that fetched a backup into it: name another")
    return folder


def _given(roles: Any) -> Any:
    """A run of an earlier version may have a null."""
    return {} if roles is None else roles


OdooDatabase = Annotated[
    str,
    Field(pattern=DATABASE_PATTERN, max_length=63, json_schema_extra={"not": {"enum": list(_MAINTENANCE)}}),
    AfterValidator(_not_maintenance),
    InWords(
        "an Odoo database's name: up to 63 letters, digits, _ - and dots, with no dot or - in front; "
        "postgres, template0 and template1 hold no Odoo data"
    ),
]
"""Also of one that does not exist yet."""
ExistingDatabase = Annotated[OdooDatabase, Offers(Offer.DATABASES)]
OdooDatabases = Annotated[
    list[OdooDatabase],
    Field(min_length=1, max_length=100, json_schema_extra={"uniqueItems": True}),
    AfterValidator(each_once),
    Offers(Offer.DATABASES),
]
TemplateDatabase = Annotated[OdooDatabase, OrEmpty()]
RetentionDays = Annotated[int, Field(ge=1, le=3650)]
BackupFile = Annotated[
    str,
    Field(pattern=_FILE_PATTERN, max_length=100),
    InWords("the file name of a backup, such as odoo_prod_20261125T231116Z.dump; `ops backups` lists them"),
]
BackupOrDatabase = Annotated[
    str,
    Field(pattern=rf"{_FILE_PATTERN}|{DATABASE_PATTERN}", max_length=100),
    InWords("the file name of a backup, such as odoo_prod_20261125T231116Z.dump, or a database's name"),
    Offers(Offer.DATABASES),
]
"""A database stands for its newest good backup."""
OptionalFile = Annotated[BackupFile, OrEmpty()]
OptionalFolder = Annotated[
    str,
    Field(pattern=_FOLDER_PATTERN, max_length=1024),
    AfterValidator(_not_fetched),
    InWords("the absolute path of a folder, without .. and blanks in it, such as /srv/backups"),
    OrEmpty(),
]
BackupFolder = Annotated[OptionalFolder, Offers(Offer.BACKUP_FOLDER)]
"""Where backups are; the room's own when it is empty."""
OptionalTarget = Annotated[
    BlockName,
    InWords("the name of a Backup Target block: small letters, digits and dashes between them"),
    OrEmpty(),
]
RoleName = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}$"),
    InWords("the name of a role: up to 63 letters, digits, dots, - and _, with neither a dot nor a - in front"),
]
RolesInstead = Annotated[dict[RoleName, RoleName], Field(max_length=1000), BeforeValidator(_given)]
NO_ROLES: dict[str, str] = {}
