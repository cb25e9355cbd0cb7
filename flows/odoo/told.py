"""What the pages of an upgrade and of a deployment say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flows.engine.facts import Facts
from flows.engine.markdown import code, text


def upgrade_facts(parameters: Mapping[str, Any], result: Mapping[str, Any]) -> Facts:
    """An upgrade: each module's versions, and the commits."""
    found = [
        (text(name), f"{code(versions['before'])} to {code(versions['after'])}")
        for name, versions in result["modules"].items()
    ]
    found.append(("commit", f"{code(result['commit_before'])} to {code(result['commit'])}"))
    back = f"ops runs --kind odoo_module_upgrade  # {parameters['odoo_db']}: what was upgraded when"
    return Facts(found, [back], "Earlier upgrades:")


def deploy_facts(parameters: Mapping[str, Any], result: Mapping[str, Any]) -> Facts:
    """A deployment: the droplet, and where Odoo answers."""
    found = [
        ("droplet", f"{text(parameters['droplet_name'])}, id {code(result['droplet_id'])}"),
        ("address", code(result["address"])),
        ("Odoo", code(result["url"])),
        ("commit", code(result["commit"])),
    ]
    return Facts(found, [f"ssh root@{result['address']}", f"curl -I {result['url']}"], "Look at it:")
