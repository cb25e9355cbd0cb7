"""The rules for Prometheus, by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tests.support.documents import ROOT

RULES = sorted((ROOT / "exporter" / "rules").glob("*.yml"))


def rules(file: Path) -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(file.read_text())["groups"] for rule in group["rules"]]


ALERTS = {rule["alert"]: (file, rule) for file in RULES for rule in rules(file) if "alert" in rule}


RECORDS = {rule["record"]: (file, rule) for file in RULES for rule in rules(file) if "record" in rule}
