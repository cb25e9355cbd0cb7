"""A production with a filestore, and the place of its staging copy."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from flows.odoo_db_backup import odoo_db_backup
from flows.odoo_staging_copy import odoo_staging_copy


def stored(filestore: Path, text: str) -> str:
    """Put an attachment into a filestore; returns its name there."""
    sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
    (filestore / sha[:2]).mkdir(parents=True, exist_ok=True)
    (filestore / sha[:2] / sha).write_text(text)
    return f"{sha[:2]}/{sha}"


@dataclass
class Copied:
    """A production, and the place of its copy."""

    production: str
    postgres: str
    filestores: Path

    @property
    def staging(self) -> str:
        return f"{self.production}_staging"

    @property
    def filestore(self) -> Path:
        """The copy's."""
        return self.filestores / self.staging

    def query(self, statement: str, database: str | None = None) -> list[tuple[object, ...]]:
        with psycopg.connect(self.postgres.format(database=database or self.staging)) as db:
            done = db.execute(statement.encode())
            return done.fetchall() if done.description else []

    def attach(self, text: str, database: str | None = None, *, field: str = "") -> str:
        """Store an attachment; `field` is the one that it is the value of, as `model/name`. Returns its file."""
        name, (model, _, of) = database or self.staging, field.partition("/")
        file = stored(self.filestores / name, text)
        columns, values = (
            "name, store_fname, res_model, res_field",
            f"'{text}', '{file}', '{model}', nullif('{of}', '')",
        )
        self.query(f"INSERT INTO ir_attachment ({columns}) VALUES ({values})", name)
        return file

    def check_whole(self) -> str:
        """Every attachment of the copy is in its filestore; returns which day's copy it is."""
        [(day,)] = self.query("SELECT comment FROM res_partner WHERE id = 1")
        for name, file in self.query("SELECT name, store_fname FROM ir_attachment"):
            assert (self.filestore / str(file)).read_text() == name, (day, name)
        [(active,)] = self.query("SELECT count(*) FROM ir_cron WHERE active")
        assert active == 1
        return str(day)


def copy(copied: Copied) -> dict[str, Any]:
    result: dict[str, Any] = odoo_staging_copy(copied.staging, copied.production, filestore_dir=str(copied.filestore))
    return result


def next_day(copied: Copied, *, backed_up: bool = True) -> None:
    copied.query("UPDATE res_partner SET comment = 'second day'", copied.production)
    copied.attach("a new contract", copied.production)
    if backed_up:
        odoo_db_backup(copied.production)
