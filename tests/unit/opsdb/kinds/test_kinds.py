"""The kinds that prefect.yaml registers."""

from __future__ import annotations

from pathlib import Path

from opsdb.kinds.kinds import Deployed, registered_deployments, registered_entrypoints, registered_kinds
from opsdb.settings import Settings


def test_entrypoints_are_those_of_the_file_that_the_settings_name(tmp_path: Path) -> None:
    file = tmp_path / "prefect.yaml"
    file.write_text("deployments:\n  - {entrypoint: a.b}\n  - {entrypoint: a.b}\n  - {entrypoint: c.d}\n")
    assert registered_entrypoints(file) == {"a.b", "c.d"}
    assert "flows.odoo_db_backup.odoo_db_backup" in registered_entrypoints(Settings().prefect_yaml)


def test_kinds_are_the_functions_of_the_entrypoints(tmp_path: Path) -> None:
    file = tmp_path / "prefect.yaml"
    file.write_text("deployments:\n  - {entrypoint: flows.b.two}\n  - {entrypoint: flows.a.one}\n")
    assert registered_kinds(file) == ["one", "two"]
    assert "odoo_db_backup" in registered_kinds(Settings().prefect_yaml)


def test_deployments_are_named_as_prefect_names_them(tmp_path: Path) -> None:
    file = tmp_path / "prefect.yaml"
    pool = "work_pool: {name: lane-b, work_queue_name: high}"
    file.write_text(f"deployments:\n  - {{name: nightly, entrypoint: flows.b.two, {pool}}}\n")
    assert registered_deployments(file) == {"two/nightly": Deployed("flows.b.two", "lane-b", "high")}
