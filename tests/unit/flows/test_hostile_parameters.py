"""Case 16: what is meant for a shell, a path or an option is refused in every text that a runbook takes."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from prefect import Flow
from prefect.exceptions import ParameterTypeError
from pydantic import TypeAdapter, ValidationError

from flows.backup.parameters import RolesInstead
from flows.nightly_backup import nightly_backup
from flows.odoo_db_backup import odoo_db_backup
from flows.odoo_db_restore import odoo_db_restore
from flows.odoo_fresh_deploy import odoo_fresh_deploy
from flows.odoo_module_upgrade import odoo_module_upgrade
from flows.odoo_restore_drill import odoo_restore_drill
from flows.odoo_staging_copy import odoo_staging_copy
from flows.odoo_upgrade_rollback import odoo_upgrade_rollback
from flows.stored_command import stored_command
from tests.support.hostile import HARMLESS, HOSTILE

FINE: dict[Flow[..., Any], dict[str, Any]] = {
    odoo_db_backup: {"odoo_db": "good", "backup_dir": "/good", "target": "good"},
    odoo_db_restore: {
        "odoo_db": "good",
        "backup": "good_20260101T000000Z.dump",
        "backup_dir": "/good",
        "filestore_dir": "/good",
        "target": "good",
        "template": "good",
        "roles": {"good": "good"},
        "missing_roles": "leave",
        "odoo_host": "good",
        "base_url": "http://good.example.com/",
    },
    odoo_staging_copy: {
        "odoo_db": "good",
        "backup": "good_20260101T000000Z.dump",
        "filestore_dir": "/good",
        "backup_dir": "/good",
        "target": "good",
        "odoo_host": "good",
        "base_url": "http://good.example.com/",
        "template": "good",
        "roles": {"good": "good"},
        "missing_roles": "leave",
    },
    odoo_restore_drill: {
        "odoo_db": "good",
        "backup": "good_20260101T000000Z.dump",
        "backup_dir": "/good",
        "target": "good",
    },
    nightly_backup: {"databases": ["good"], "backup_dir": "/good", "target": "good"},
    odoo_module_upgrade: {
        "odoo_db": "good",
        "modules": ["good"],
        "git_ref": "good",
        "odoo_host": "good",
        "repo_dir": "/good",
        "compose_file": "good.yml",
        "odoo_service": "good",
        "health_url": "http://localhost/web",
        "protect": "dump",
        "rollback": "ask",
    },
    odoo_upgrade_rollback: {"odoo_db": "good", "upgrade": "5f0c5c1e-6c0e-4d38-9a0e-0d5e1f3a9c0b"},
    odoo_fresh_deploy: {
        "droplet_name": "good",
        "domain": "good.example",
        "email": "good@good.example",
        "odoo_db": "good",
        "ssh_keys": ["12"],
        "git_ref": "good",
        "repo_url": "https://good.example/good",
        "repo_dir": "/good",
        "compose_file": "good.yml",
        "region": "sgp1",
        "size": "good",
        "image": "good",
    },
    stored_command: {"block": "good"},
}
CASES = [(flow, name) for flow, parameters in FINE.items() for name in parameters]


def with_text(good: object, text: str) -> object:
    """The text where the good value has one."""
    return [text] if isinstance(good, list) else {"good": text} if isinstance(good, dict) else text


def test_there_are_more_than_200_hostile_texts() -> None:
    assert len(set(HOSTILE)) > 200


@pytest.mark.parametrize(("flow", "name"), CASES, ids=lambda value: getattr(value, "name", value))
@pytest.mark.promise(7)
def test_hostile_text_is_refused(flow: Flow[..., Any], name: str) -> None:
    good = FINE[flow]
    assert flow.validate_parameters(good)
    with pytest.raises(ParameterTypeError):
        flow.validate_parameters({**good, name: with_text(good[name], "; touch canary")})
    # Prefect builds a model for each call; the rule is that of the type, checked directly
    parameter = inspect.signature(flow.fn, eval_str=True).parameters[name]
    rule = TypeAdapter[Any](parameter.annotation)
    accepted = []
    for text in HOSTILE:
        try:
            rule.validate_python(with_text(good[name], text))
        except (ValidationError, UnicodeEncodeError):
            continue
        if not HARMLESS.fullmatch(text):
            accepted.append(text)
    assert accepted == ([""] if parameter.default == "" else []), "an empty text is one that was not given"


@pytest.mark.parametrize("flow", list(FINE), ids=lambda flow: flow.name)
def test_every_text_of_the_form_is_among_the_cases(flow: Flow[..., Any]) -> None:
    texts = {name for name, field in flow.parameters.properties.items() if "string" in str(field)}
    assert texts <= set(FINE[flow])


@pytest.mark.promise(7)
def test_hostile_name_of_a_role_is_refused() -> None:
    rule = TypeAdapter[Any](RolesInstead)
    accepted = []
    for text in HOSTILE:
        try:
            rule.validate_python({text: "good"})
        except (ValidationError, UnicodeEncodeError):
            continue
        accepted.append(text)
    assert [text for text in accepted if not HARMLESS.fullmatch(text)] == []
