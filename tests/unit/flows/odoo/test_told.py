"""What the pages of an upgrade and of a deployment say."""

from __future__ import annotations

from flows.odoo.told import deploy_facts, upgrade_facts


def test_upgrade_says_versions_and_commits() -> None:
    modules = {"sale_stock": {"before": "17.0.1", "after": "18.0.1"}}
    result = {"modules": modules, "commit_before": "aaa", "commit": "bbb", "protection": "a.dump"}
    rows = dict(upgrade_facts({"odoo_db": "shop"}, result).rows)
    assert rows == {r"sale\_stock": "`17.0.1` to `18.0.1`", "commit": "`aaa` to `bbb`", "kept from before": r"a\.dump"}


def test_deployment_says_where_odoo_answers() -> None:
    result = {"droplet_id": "42", "address": "203.0.113.7", "url": "https://shop.example.org", "commit": "bbb"}
    facts = deploy_facts({"droplet_name": "shop"}, result)
    assert dict(facts.rows)["Odoo"] == "`https://shop.example.org`"
    assert "ssh root@203.0.113.7" in facts.commands
