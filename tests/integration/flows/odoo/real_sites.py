"""A site whose Odoo is a real one: a checkout with the team's own modules, and the container that runs them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.odoo_module_upgrade import odoo_module_upgrade
from tests.integration.flows.odoo_sites import COMPOSE, git
from tests.support.real_odoo import OdooContainer, RealOdoo
from tests.support.stand_ins.docker import docker

MANIFEST = """\
{{"name": "Shop Extras", "version": "{version}", "depends": ["sale"], "data": ["views/order.xml"], "license": "LGPL-3"}}
"""
VIEW = """\
<odoo><record id="order_form" model="ir.ui.view">
  <field name="name">order form of the shop</field>
  <field name="model">sale.order</field>
  <field name="inherit_id" ref="sale.view_order_form"/>
  <field name="arch" type="xml"><field name="{beside}" position="after"><field name="origin"/></field></field>
</record></odoo>
"""
NEW_COLUMN = """\
from odoo import fields, models
class Users(models.Model):
    _inherit = "res.users"
    shop_badge = fields.Char()
    def _register_hook(self):
        self.search_count([("shop_badge", "!=", False)])
"""
"""Models of a module whose code cannot be loaded with the database of before: it reads a new column at once."""


@dataclass
class Team:
    """Where the modules come from: the team commits in `work`, and what it pushes is at `origin`."""

    origin: Path
    work: Path

    @classmethod
    def of(cls, folder: Path) -> Team:
        """A new team in `folder`, whose origin holds a compose file and a folder for modules."""
        team = cls(folder / "origin", folder / "work")
        team.origin.mkdir()
        git(team.origin, "init", "-q", "--bare")
        git(folder, "clone", "-q", str(team.origin), str(team.work))
        for path, text in ((COMPOSE, "services: {odoo: {}}\n"), ("addons/README.md", "The shop's own modules.\n")):
            (team.work / path).parent.mkdir()
            (team.work / path).write_text(text)
        team.push("first")
        return team

    def publish(self, version: str, *, beside: str = "client_order_ref", models: str = "") -> str:
        """Push a version of the module `shop_extras`, whose view puts a field beside another. Returns the commit.

        `models` is the Python of its models.
        """
        module = self.work / "addons" / "shop_extras"
        (module / "views").mkdir(parents=True, exist_ok=True)
        (module / "__init__.py").write_text(models)
        (module / "__manifest__.py").write_text(MANIFEST.format(version=version))
        (module / "views" / "order.xml").write_text(VIEW.format(beside=beside))
        return self.push(version)

    def push(self, message: str) -> str:
        """Push all that is in `work`. Returns the commit."""
        git(self.work, "add", "-A")
        git(self.work, "commit", "-qm", message)
        git(self.work, "push", "-q", "origin", "HEAD")
        return git(self.work, "rev-parse", "HEAD")


@dataclass
class RealSite:
    """An Odoo that a room works on."""

    team: Team
    checkout: Path
    odoo: RealOdoo
    container: OdooContainer

    @property
    def database(self) -> str:
        return self.odoo.database

    @property
    def place(self) -> dict[str, str]:
        """Where it is, for a runbook."""
        return {"repo_dir": str(self.checkout), "health_url": f"{self.odoo.url}/web/health"}

    def upgrade(self, *modules: str, **changes: Any) -> dict[str, Any]:
        facts: dict[str, Any] = {"odoo_db": self.database, "modules": list(modules), "protect": "none", **self.place}
        result: dict[str, Any] = odoo_module_upgrade(**(facts | changes))
        return result

    def install(self, version: str) -> None:
        """Have `shop_extras` of that version in checkout and database."""
        self.team.publish(version)
        git(self.checkout, "pull", "-q")
        self.odoo.run("-d", self.database, "-i", "shop_extras", "--stop-after-init", "--no-http")


@contextmanager
def real_site(team: Team, folder: Path, client: Path, odoo: dict[str, Any]) -> Iterator[RealSite]:
    """A site in `folder`, with its `docker` in the folder `client`, of an Odoo of these facts. It does not run yet."""
    git(folder, "clone", "-q", str(team.origin), str(folder / "checkout"))
    made = RealOdoo(folder=folder / "odoo", addons=folder / "checkout" / "addons", **odoo)
    facts = {"compose_file": COMPOSE, "service": "odoo", "programs": made.programs, "environment": made.environment}
    with docker(client, of=OdooContainer, odoo=made, stopped=True, **facts) as container:
        assert isinstance(container, OdooContainer)
        try:
            yield RealSite(team, folder / "checkout", made, container)
        finally:
            made.stop()
