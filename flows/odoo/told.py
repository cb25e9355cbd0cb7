"""What the pages of an upgrade, of a rollback and of a deployment say."""

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
    found.append(("kept from before", text(result.get("protection") or "nothing: it cannot be taken back")))
    back = f"ops runs --kind odoo_module_upgrade  # {parameters['odoo_db']}: what was upgraded when"
    return Facts(found, [back], "Earlier upgrades:")


def rollback_facts(_parameters: Mapping[str, Any], result: Mapping[str, Any]) -> Facts:
    """A rollback: what is in its place again, and what was set aside."""
    written, aside = result["written_since"], result["set_aside"]
    found = [
        ("database", code(result["database"])),
        ("taken back to", text(result["taken_back_to"] or "the previous code: no module was upgraded")),
        ("commit", code(result["commit"])),
        ("written since, and set aside", "; ".join(map(text, written)) if written else "nothing that was counted"),
    ]
    found += [(f"{what} set aside", code(name)) for what, name in aside.items() if name]
    drop = result["drop_it_with"]
    return Facts(found, [drop] if drop else [], "When nobody needs what was set aside any more, drop it:")


def deploy_facts(parameters: Mapping[str, Any], result: Mapping[str, Any]) -> Facts:
    """A deployment: the droplet, and where Odoo answers."""
    found = [
        ("droplet", f"{text(parameters['droplet_name'])}, id {code(result['droplet_id'])}"),
        ("address", code(result["address"])),
        ("Odoo", code(result["url"])),
        ("commit", code(result["commit"])),
    ]
    return Facts(found, [f"ssh root@{result['address']}", f"curl -I {result['url']}"], "Look at it:")
