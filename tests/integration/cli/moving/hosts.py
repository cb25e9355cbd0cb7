"""Hosts between which tests move a room, and what is in it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from cli.moving import restore
from cli.moving.outcome import Restored
from deployments.room.postgres import EmbeddedPostgres
from opsdb.settings import Settings
from tests.support.commands import Answer, run_ops
from tests.support.postgres import running

PASSPHRASE = "correct horse battery staple"
PASSWORD = "a password of superset"
Where = Callable[[], Path]

TABLES = """
SELECT format('%I.%I', schemaname, tablename)
FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1
"""
ROWS = "SELECT count(*) || ' ' || coalesce(md5(string_agg(t::text, ',' ORDER BY t::text)), '') FROM {} t"


@dataclass(frozen=True)
class Host:
    """An OPS_HOME, and commands in it."""

    home: Path
    more: dict[str, str] = field(default_factory=dict)

    @property
    def settings(self) -> Settings:
        return Settings(home=self.home)

    @property
    def env(self) -> dict[str, str]:
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("OPS_", "PREFECT_", "PG"))}
        return {**clean, "COLUMNS": "250", "OPS_HOME": str(self.home), **self.more}

    def ops(self, *arguments: str) -> Answer:
        self.home.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return run_ops(*arguments, env=self.env, cwd=self.home.parent)


def restored(host: Host, backup: Path, **options: Any) -> Restored:
    given = {"replace": False, "take_over": True, **options}
    return restore.restore(host.settings, backup, PASSPHRASE, **given)


def contents(host: Host) -> dict[str, str]:
    """How many rows each table of a room has, with a hash of them; but of Prefect's variables, where its id stands."""
    found = {}
    with running(host.home) as url:
        for name in ("ops", "prefect"):
            with psycopg.connect(url.format(database=name)) as db:
                for (table,) in db.execute(TABLES).fetchall():
                    if table != "public.variable":
                        found[f"{name} {table}"] = str(db.execute(ROWS.format(table).encode()).fetchall()[0][0])
    return found


def schema(host: Host, database: str) -> str:
    """All objects of a database with their owners and rights, as pg_dump spells them."""
    with running(host.home) as url:
        command = [
            str(EmbeddedPostgres(host.home).programs / "pg_dump"),
            "--schema-only",
            url.format(database=database),
        ]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return "\n".join(line for line in text.splitlines() if not line.startswith(("\\restrict", "\\unrestrict")))


def in_prefect(host: Host, query: str) -> list[tuple[Any, ...]]:
    with running(host.home) as url, psycopg.connect(url.format(database="prefect")) as db:
        return db.execute(query.encode()).fetchall()


def damaged(backup: Path, folder: Path, at: int) -> Path:
    data = bytearray(backup.read_bytes())
    data[at] ^= 1
    file = folder / "room.sealed"
    file.write_bytes(data)
    return file
