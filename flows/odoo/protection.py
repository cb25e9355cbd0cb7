"""What is kept of an Odoo database and its filestore before an upgrade, so that it can be taken back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

from flows.backup.database import FILESTORE, Database, Source
from flows.backup.dump import DEADLINE_SECONDS
from flows.backup.folder import Folder, backup_folder, check_space
from flows.backup.keyring import Keyring, room_keyring
from flows.backup.making import check_backup, make_backup
from flows.engine.active_run import current_run
from flows.engine.lasting import lasting
from flows.odoo.aside import connect_beside
from flows.odoo.before import Protection, note_protection, read_protection_of_begun
from flows.odoo.copying import COPY_SECONDS, Copying, check_copying
from flows.restore.server import check_free, check_may_create

PROTECT_SECONDS = max(DEADLINE_SECONDS, 2 * COPY_SECONDS) + 120

Protect = Literal["dump", "copy", "none"]


class Guard(ABC):
    """A protection that can be made: all that it needs was looked at."""

    def make(self) -> Protection:
        """Make it, as steps of the current run, unless an earlier attempt did before it upgraded modules.

        What that one kept is the previous state: the database has changed since. Raises StepError.
        """
        if (kept := read_protection_of_begun()) is not None:
            current_run().event(f"an earlier attempt began to upgrade modules: {kept.words} holds the previous state")
            return kept
        made = lasting("protected", lambda: self._make().model_dump(mode="json"), about="note what is kept from before")
        protection = Protection.model_validate(made)
        note_protection(protection)
        return protection

    @abstractmethod
    def _make(self) -> Protection: ...


@dataclass(frozen=True, slots=True)
class Dump(Guard):
    """A verified backup, with the filestore."""

    source: Source
    folder: Folder
    keyring: Keyring

    def _make(self) -> Protection:
        backup = make_backup(self.source, self.folder, self.keyring)
        return Protection(
            protect="dump",
            attempt=current_run().attempt,
            made_at=backup.name.created_at,
            backup=backup.name.dump,
            backup_dir=str(self.folder.path),
            filestore=self.source.filestore is not None,
        )


@dataclass(frozen=True, slots=True)
class Copy(Guard):
    """A copy on the database's server, and of the filestore beside it."""

    copying: Copying

    def _make(self) -> Protection:
        made_at = self.copying.make()
        return Protection(
            protect="copy",
            attempt=current_run().attempt,
            made_at=made_at,
            filestore=self.copying.filestores is not None,
        )


def check_guard(database: str, protect: Protect) -> Guard | None:
    """Look at all that a protection needs, room for it and for what a rollback restores included.

    Changes nothing; None where nothing is to be protected. Raises PreflightError.
    """
    settings = current_run().settings
    if protect == "none":
        return None
    if settings.filestore_dir is None:
        current_run().event(
            "the filestore is not protected: OPS_FILESTORE_DIR is not set, and a rollback leaves it as it is",
            level="warning",
        )
    if protect == "copy":
        return Copy(check_copying(database))
    folder, keyring = backup_folder(""), room_keyring(settings)
    source = check_backup(Database(database, settings.odoo_url), folder, keyring)
    beside = [(folder.check(), sum(source.needed.values()))]
    if settings.filestore_dir is not None:
        second = source.needed[FILESTORE]
        check_space(settings.filestore_dir, {"the previous filestore, when it is restored beside this one,": second})
        beside.append((settings.filestore_dir, second))
    with connect_beside(settings.odoo_url, database) as server:
        check_may_create(server)
        if unknown := check_free(server, needed_bytes=source.size_bytes, beside=beside):
            current_run().event(f"free space for a rollback was not checked: {unknown}", level="warning")
    return Dump(source, folder, keyring)
