"""What the process of the exporter knows at its start."""

from __future__ import annotations

from pathlib import Path

from exporter.metrics.__main__ import _kinds
from opsdb.settings import Settings


def test_series_begin_with_the_kinds_of_prefect_yaml_and_of_templates(tmp_path: Path) -> None:
    (tmp_path / "prefect.yaml").write_text("deployments:\n  - {entrypoint: flows.one.one}\n")
    (tmp_path / "two.json").write_text('{"kind": "two"}')
    (tmp_path / "broken.json").write_text("{")
    settings = Settings(templates=tmp_path, prefect_yaml=tmp_path / "prefect.yaml")
    assert _kinds(settings) == ("disk_space", "one", "two")
    assert _kinds(Settings(prefect_yaml=tmp_path / "none.yaml")) == ()
