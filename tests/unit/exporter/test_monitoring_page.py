"""docs/monitoring.md names what there is."""

from __future__ import annotations

import re

from tests.support.documents import ROOT
from tests.support.rules import ALERTS

PAGE = (ROOT / "docs" / "monitoring.md").read_text()


def test_every_alert_is_explained_with_its_severity() -> None:
    told = {
        name: severity
        for name, anchor, severity in re.findall(
            r"^\| \[`(Ops\w+)`\]\(prometheus-alerts\.md#(\w+)\) \| (\w+) \|", PAGE, re.MULTILINE
        )
        if anchor == name.lower()
    }
    assert told == {name: rule["labels"]["severity"] for name, (_, rule) in ALERTS.items()}


def test_every_view_is_explained() -> None:
    migrations = (ROOT / "opsdb" / "migrations" / "versions").glob("*.py")
    made = {view for file in migrations for view in _views(file.read_text())}
    assert made <= set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE))
    assert "stuck_runs" in made


def test_files_that_are_copied_exist() -> None:
    copied = re.findall(r"/opt/ops-control-room/(\S+\.yml)", PAGE)
    assert len(copied) == 4
    assert all((ROOT / path).is_file() for path in copied)


def _views(migration: str) -> list[str]:
    return re.findall(r'^    "(\w+)": """', migration, re.MULTILINE) + re.findall(r"CREATE VIEW ops\.(\w+)", migration)
