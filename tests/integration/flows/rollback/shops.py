"""An Odoo that was upgraded, whose upgrade is taken back."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg

from flows.engine.active_run import ActiveRun
from flows.odoo import aside
from flows.odoo.aside import name_before, name_broken
from flows.odoo_upgrade_rollback import odoo_upgrade_rollback
from tests.integration.flows.conftest import content
from tests.integration.flows.odoo_sites import Site, git
from tests.support.folders import files


@dataclass
class Shop:
    """An Odoo with a filestore that was upgraded, and what it was before."""

    site: Site
    postgres: str
    filestores: Path
    runs: list[ActiveRun]
    steps: list[str]
    """The steps that succeeded, of all runs."""
    upgrade: UUID = field(default_factory=uuid4)
    commit: str = ""
    upgraded: str = ""

    @property
    def database(self) -> str:
        return self.site.database

    @property
    def url(self) -> str:
        return self.postgres.format(database=self.database)

    def execute(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url) as db:
            cursor = db.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def versions(self) -> list[tuple[Any, ...]]:
        return self.execute("SELECT name, state, latest_version FROM ir_module_module ORDER BY 1")

    def do_upgrade(self, **changes: Any) -> dict[str, Any]:
        """Upgrade, and let people and Odoo write afterwards."""
        self.commit = git(self.site.checkout, "rev-parse", "HEAD")
        self.upgraded = self.site.commit(f"upgrade {len(self.runs)}")
        try:
            return self.site.upgrade(**({"protect": "dump"} | changes))
        finally:
            self.upgrade = self.runs[-1].id

    def roll_back(self, **changes: Any) -> dict[str, Any]:
        facts: dict[str, Any] = {"odoo_db": self.database, "upgrade": str(self.upgrade), "ask": False}
        result: dict[str, Any] = odoo_upgrade_rollback(**(facts | changes))
        return result

    def put_upgrade_back(self, *, keep: bool) -> None:
        """What a rollback set aside is live again, and what it restored is there or not: faster than to upgrade."""
        names = {"incoming": name_broken(self.upgrade), "aside": name_before(self.upgrade)}
        comment = aside.comment_before(self.database, self.upgrade)
        aside.swap_databases(self.url, self.database, **names, comment=comment)
        aside.swap_filestores(self.filestores, self.database, **names)
        if not keep:
            with psycopg.connect(self.postgres.format(database="postgres"), autocommit=True) as db:
                aside.drop(db, names["aside"])
            shutil.rmtree(self.filestores / names["aside"])
        git(self.site.checkout, "checkout", "-q", "--detach", self.upgraded)

    def attach(self, text: str) -> None:
        """An attachment, with its row and its file."""
        name = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        path = self.filestores / self.database / name[:2] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        self.execute(f"INSERT INTO ir_attachment (store_fname) VALUES ('{name[:2]}/{name}')")

    def seen(self) -> dict[str, object]:
        """All of what production is: rows, modules, files, code, and whether Odoo runs."""
        return {
            "rows": content(self.url),
            "modules": self.versions(),
            "orders": self.execute("SELECT * FROM sale_order ORDER BY 1"),
            "files": files(self.filestores / self.database),
            "commit": git(self.site.checkout, "rev-parse", "HEAD"),
            "stopped": self.site.daemon.stopped,
            "settings": self.execute("SELECT setconfig FROM pg_db_role_setting s JOIN pg_database d"
                                     " ON d.oid = setdatabase WHERE datname = current_database()"),
            "aside": self.execute("SELECT datistemplate, shobj_description(oid, 'pg_database') FROM pg_database"
                                  " WHERE datname = current_database()"),
        }  # fmt: skip


def work(shop: Shop) -> None:
    """What people do after an upgrade."""
    shop.execute("INSERT INTO sale_order (name, write_date) VALUES ('S3', now() at time zone 'UTC' + interval '1 h')")
    shop.execute(
        "UPDATE sale_order SET name = 'S1*', write_date = now() at time zone 'UTC' + interval '1 h' WHERE id = 1"
    )
    shop.execute("DELETE FROM line WHERE id < 3")
    shop.attach("another invoice")
