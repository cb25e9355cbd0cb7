"""The templates that there are. A new one is a module like `nginx.py`, a file in `templates/`, and a line here."""

from __future__ import annotations

from deployments.hosting.do_app import DO_APP
from deployments.hosting.github_actions import GITHUB_ACTIONS
from deployments.hosting.nginx import NGINX
from deployments.hosting.pg_hba import PG_HBA
from deployments.hosting.systemd import SYSTEMD
from deployments.hosting.template import Template
from deployments.hosting.ufw import UFW
from opsdb.errors import UsageError
from opsdb.near_names import did_you_mean

TEMPLATES: dict[str, Template] = {
    template.name: template for template in (NGINX, UFW, PG_HBA, SYSTEMD, DO_APP, GITHUB_ACTIONS)
}
TABLES = (*TEMPLATES, "cost")
"""The tables of the hosting file."""


def find_template(name: str) -> Template:
    """The template of that name. Raises UsageError that lists them."""
    if name in TEMPLATES:
        return TEMPLATES[name]
    near = did_you_mean(name, TEMPLATES)
    raise UsageError(f"invalid template {name!r} (choose from {', '.join(TEMPLATES)}).{near}")
