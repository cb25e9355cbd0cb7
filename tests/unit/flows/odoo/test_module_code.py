"""Which code of modules may be loaded: that of the checkout, and none that is older than the database."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from flows.odoo.module_code import IN_CHECKOUT, check_code
from opsdb.errors import StepFailedError
from tests.integration.flows.odoo_sites import git

BEFORE: dict[str, str | None] = {"sale": "18.0.1.2"}


def said(loaded: str, *manifests: str) -> str:
    checkout = "".join(f"checkout: sale {manifest}\n" for manifest in manifests)
    return f"{checkout}noise\ncode: sale {loaded}\nseries: 18.0\n"


@pytest.mark.parametrize(
    "manifests",
    [
        [],
        ["18.0.1.3 addons/sale/__manifest__.py"],
        ["1.3 addons/sale/__manifest__.py"],
        ["1.0 old/sale/__manifest__.py", "1.3 my addons/sale/__manifest__.py"],
    ],
)
def test_code_of_the_checkout_is_loaded_however_its_version_is_written(manifests: list[str]) -> None:
    check_code(["sale"], BEFORE, said("18.0.1.3", *manifests))


@pytest.mark.parametrize(
    ("printed", "message"),
    [
        ("", "no code that can be installed of sale"),
        (said("-"), "no code that can be installed of sale"),
        (
            said("18.0.1.3", " a/sale/__manifest__.py"),
            r"18\.0\.1\.3 in the container, and at 18\.0\.1\.0 in a/sale/_",
        ),
        (
            said("18.0.1.3", "1.4 a/sale/x", "1.5 b/sale/x"),
            r"at 18\.0\.1\.4 in a/sale/x, at 18\.0\.1\.5 in b/sale/x",
        ),
        (said("18.0.1.1"), r"older than the database: sale from 18\.0\.1\.2 to 18\.0\.1\.1\."),
    ],
)
def test_other_code_is_refused_by_name(printed: str, message: str) -> None:
    with pytest.raises(StepFailedError, match=message):
        check_code(["sale"], BEFORE, printed)


def test_manifests_of_a_checkout_are_found_where_they_are_tracked(tmp_path: Path) -> None:
    manifests = {
        "sale": "{'name': 'Sale', 'version': '18.0.1.3', 'depends': ['base']}",
        "my addons/sale": '{\n    # "version": "1.0",\n    "version" : "1.4",\n    "data": ["version"],\n}',
        "deep/er/stock": '{"name": "Stock"}',
        "presale": '{"version": "9"}',
    }
    git(tmp_path, "init", "-q")
    for folder, text in manifests.items():
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "__manifest__.py").write_text(text)
    git(tmp_path, "add", "-A")
    (tmp_path / "untracked" / "sale").mkdir(parents=True)
    (tmp_path / "untracked" / "sale" / "__manifest__.py").write_text('{"version": "7"}')
    done = subprocess.run(
        ["bash", "-O", "inherit_errexit", "-euo", "pipefail", "-c", IN_CHECKOUT],
        env={"PATH": "/usr/bin:/bin", "REPO": str(tmp_path), "MODULES": "sale,stock,web"},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stdout.splitlines() == [
        "checkout: sale 1.4 my addons/sale/__manifest__.py",
        "checkout: sale 18.0.1.3 sale/__manifest__.py",
        "checkout: stock  deep/er/stock/__manifest__.py",
    ]
