"""The keys of artifacts: readable, allowed by Prefect, and never those of something else."""

from __future__ import annotations

import re

import pytest

from flows.engine.artifact_keys import PROGRESS, STEPS, SUBJECTS, artifact_key, subject_of

NAMES = ["odoo_prod", "odoo-prod", "odoo.prod", "Odoo_prod", "odoo__prod", "_odoo", "odoo_", "odoo", "prod", "steps"]
NAMES += ["\u00e9", "/", "", "x" * 300, "prod--steps", "odoo_prod_1", "*", "\udcff"]
KINDS = [*SUBJECTS, "disk_space", "disk", "space", "backup", "backup_odoo", "restore", "odoo", "Disk", "nightly"]


@pytest.mark.parametrize(
    ("kind", "subject", "key"),
    [
        ("odoo_db_backup", "odoo_prod", "backup-odoo-prod"),
        ("odoo_restore_drill", "odoo_prod", "drill-odoo-prod"),
        ("odoo_staging_copy", "odoo_prod", "copy-odoo-prod"),
        ("nightly_backup", None, "nightly-backup"),
        ("disk_space", None, "disk-space"),
        ("disk_space", "data", "disk-space--data"),
    ],
)
def test_key_is_readable(kind: str, subject: str | None, key: str) -> None:
    assert artifact_key(kind, subject) == key


def test_different_subjects_have_different_keys_that_prefect_allows() -> None:
    made: dict[str, tuple[str, str | None]] = {}
    for kind in KINDS:
        for subject in [None, *NAMES]:
            key = artifact_key(kind, subject)
            for one in (key, key + STEPS, key + PROGRESS):
                assert re.fullmatch("[a-z0-9][a-z0-9-]{0,200}", one), (kind, subject)
                assert made.setdefault(one, (kind, subject)) == (kind, subject or made[one][1])
    assert len(set(made.values())) > len(KINDS) * (len(NAMES) - 1)


def test_subject_is_the_main_parameter() -> None:
    assert subject_of("odoo_db_backup", {"odoo_db": "shop", "retention_days": 3}, exclusive="odoo_db") == "shop"
    assert subject_of("nightly_backup", {"databases": ["a"]}, exclusive=None) is None
    assert subject_of("template", {"folder": "/", "host": "a"}, exclusive="host") == "a"
    assert subject_of("template", {"folder": "/"}, exclusive=None) == "/"
    assert subject_of("template", {}, exclusive=None) is None


def test_subject_is_what_the_name_of_a_run_names_and_never_a_secret() -> None:
    parameters = {"api_token": "hush", "deep": 3, "folder": "/srv"}
    assert subject_of("template", parameters, exclusive=None) == "3"
    assert subject_of("template", parameters, exclusive=None, named=["missing", "folder"]) == "/srv"
    assert subject_of("template", parameters, exclusive="deep", named=["folder"]) == "3"
    assert subject_of("template", {"api_token": "hush"}, exclusive="api_token", named=["api_token"]) is None
