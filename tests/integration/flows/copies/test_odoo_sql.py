"""An Odoo that is asked how its own modules are neutralised, and one that does not say."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from blocks.odoo_host import OdooHost
from flows.odoo_db_backup import odoo_db_backup
from flows.odoo_db_restore import odoo_db_restore
from tests.support.stand_ins.docker import docker

COMPOSE = "deploy/docker-compose.prod.yml"
ODOO = """#!{python}
import pathlib, sys
words = sys.argv[1:]
assert words == ["neutralize", "--stdout", "-d", words[-1]], words
pathlib.Path({asked!r}).write_text(words[-1])
sys.stderr.write("2026-11-30 INFO odoo: Odoo version 18.0\\n")
if not pathlib.Path({script!r}).exists():
    sys.exit("FATAL: database does not exist")
print("BEGIN;")
print(pathlib.Path({script!r}).read_text().rstrip(";") + ";")
print("COMMIT;")
"""
SCRIPT = """-- deactivate what the team's module does; it's ours
UPDATE team_robot
   SET active = false, note = 'stands; still';
UPDATE gone_table SET active = false;
INSERT INTO ir_mail_server(name, smtp_port, smtp_host, smtp_encryption, active, smtp_authentication)
VALUES ('neutralization - disable emails', 1025, 'invalid', 'none', true, 'login');
UPDATE iap_account SET account_token = account_token || '+disabled';
"""


@pytest.fixture
def script(tmp_path: Path, path_folder: Path, prefect_client: object) -> Iterator[Path]:
    """The file with what Odoo says, in a site whose block is `copies-site`."""
    programs, checkout, script = tmp_path / "container", tmp_path / "checkout", tmp_path / "script.sql"
    (checkout / "deploy").mkdir(parents=True)
    (checkout / COMPOSE).write_text("services: {odoo: {}}\n")
    programs.mkdir()
    odoo = programs / "odoo"
    odoo.write_text(ODOO.format(python=sys.executable, asked=str(tmp_path / "asked"), script=str(script)))
    odoo.chmod(0o755)
    OdooHost.register_type_and_schema()
    OdooHost(repo_dir=str(checkout)).save("copies-site", overwrite=True)
    with docker(path_folder, compose_file=COMPOSE, service="odoo", programs=programs):
        yield script


def test_odoo_says_how_its_modules_are_neutralised_and_never_sees_the_copy(
    postgres: str, live_odoo: Callable[..., str], script: Path, told: list[str], tmp_path: Path
) -> None:
    robot = (
        "CREATE TABLE team_robot (active boolean, note text); INSERT INTO team_robot VALUES (true, 'a'), (true, 'b')"
    )
    odoo = live_odoo(robot)
    script.write_text(SCRIPT)
    dump = Path(odoo_db_backup(odoo)["file"]).name
    result = odoo_db_restore(f"{odoo}_copy", dump, odoo_host="copies-site")
    done = result["neutralised"]
    assert (tmp_path / "asked").read_text() == odoo
    assert done["rows_changed"]["Odoo, line 2: UPDATE team_robot"] == 2
    assert done["rows_changed"]["Odoo, line 5: INSERT INTO ir_mail_server"] == 1
    assert "a mail server that sends nothing" not in done["rows_changed"]
    assert done["refused"] == {"Odoo, line 4: UPDATE gone_table": 'relation "gone_table" does not exist'}
    with psycopg.connect(postgres.format(database=f"{odoo}_copy")) as db:
        assert db.execute("SELECT DISTINCT active, note FROM team_robot").fetchall() == [(False, "stands; still")]
        assert db.execute("SELECT account_token FROM iap_account").fetchall() == [("neutralised+disabled",)]
    assert [one for one in told if "gone_table" in one] != []


def test_odoo_that_does_not_say_leaves_it_to_the_room(
    postgres: str, live_odoo: Callable[..., str], script: Path, told: list[str]
) -> None:
    assert not script.exists()
    odoo = live_odoo()
    result = odoo_db_restore(f"{odoo}_copy", Path(odoo_db_backup(odoo)["file"]).name, odoo_host="copies-site")
    assert f"Odoo gave no statements that neutralise {odoo}: those of the room are used alone" in "".join(told)
    assert result["neutralised"]["rows_changed"]["scheduled jobs"] == 1
