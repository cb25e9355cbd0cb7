"""Every form of a runbook can be read and filled in by an operator, in both UIs of Prefect."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from prefect import Flow
from prefect.utilities.callables import parameter_schema
from prefect.utilities.schema_tools import validate

from deployments.server.form import NOTHING_KNOWN, form_of
from flows.nightly_backup import nightly_backup
from flows.odoo_db_backup import odoo_db_backup
from flows.odoo_db_restore import odoo_db_restore
from flows.odoo_fresh_deploy import odoo_fresh_deploy
from flows.odoo_module_upgrade import odoo_module_upgrade
from flows.odoo_restore_drill import odoo_restore_drill
from flows.odoo_staging_copy import odoo_staging_copy
from flows.odoo_upgrade_rollback import odoo_upgrade_rollback
from flows.stored_command import stored_command
from flows.template.reading import read_template
from flows.template.run import runbook_of
from opsdb.kinds.template_files import template_files
from opsdb.settings import Settings

RUNBOOKS: list[Flow[..., Any]] = [
    nightly_backup, odoo_db_backup, odoo_db_restore, odoo_fresh_deploy, odoo_module_upgrade, odoo_restore_drill,
    odoo_staging_copy, odoo_upgrade_rollback, stored_command,
    *(runbook_of(read_template(file.path)) for file in template_files(Settings())),
]  # fmt: skip
ALL = pytest.mark.parametrize("runbook", RUNBOOKS, ids=lambda one: one.name)


def properties(runbook: Flow[..., Any]) -> dict[str, dict[str, Any]]:
    return dict(parameter_schema(runbook).model_dump()["properties"])


@ALL
def test_every_field_is_plain_and_explained(runbook: Flow[..., Any]) -> None:
    for name, field in properties(runbook).items():
        assert "anyOf" not in field, f"{name}: the form shows a choice between types"
        assert field["description"], name
        assert "`" not in field["description"], f"{name}: one of the UIs shows that as it is"


@ALL
def test_every_text_that_can_be_wrong_says_so_in_words(runbook: Flow[..., Any]) -> None:
    for name, field in properties(runbook).items():
        for one in filter(None, (field, field.get("items"), field.get("additionalProperties"))):
            if isinstance(one, dict) and "pattern" in one:
                assert one.get("errorMessage"), name


@ALL
def test_description_is_markdown_for_operators(runbook: Flow[..., Any]) -> None:
    described = runbook.description or ""
    summary, _, rest = described.partition("\n\n")
    assert summary.endswith(".")
    assert len(summary) <= 130
    assert not re.search(r"Args:|Raises|:param|::|\[\[", described)
    prose, command, after = rest.split("```")
    assert command.strip().startswith("ops ")
    assert after.strip() == ""
    assert "`" not in prose
    assert f"ops run {runbook.name}" in command


@pytest.mark.parametrize("runbook", [odoo_fresh_deploy, odoo_module_upgrade], ids=lambda one: one.name)
def test_minutes_that_an_earlier_version_left_null_are_taken_by_prefects_server(runbook: Flow[..., Any]) -> None:
    form = form_of(parameter_schema(runbook).model_dump(), NOTHING_KNOWN, None)
    field = form["properties"]["approval_minutes"]
    assert (field["type"], "anyOf" in field, "default" in field) == ("integer", False, False)
    assert "Empty for 60." in field["description"]
    one_field = {**form, "properties": {"approval_minutes": field}, "required": []}
    for minutes, right in ((None, True), (5, True), ("soon", False), (-1, False)):
        assert (not validate({"approval_minutes": minutes}, one_field)) is right, minutes


@ALL
def test_null_in_a_run_of_an_earlier_version_is_what_was_not_given(runbook: Flow[..., Any]) -> None:
    for name, field in properties(runbook).items():
        if field.get("default") in ("", {}):
            parameter = parameter_schema(runbook)
            assert name not in (parameter.required or [])


def test_schedule_of_the_night_says_every_default_of_its_form() -> None:
    """The form of a schedule shows what the schedule says: one more database must not take the others away."""
    declared = yaml.safe_load(Settings().prefect_yaml.read_text())["deployments"]
    [night] = [one for one in declared if one["name"] == "nightly-backup"]
    defaults = {name: field["default"] for name, field in properties(nightly_backup).items()}
    said = {name: value for name, value in defaults.items() if value != ""}
    assert night["schedules"][0]["parameters"] == said
