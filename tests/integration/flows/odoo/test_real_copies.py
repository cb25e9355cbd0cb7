"""Copies of a real Odoo, served by a real Odoo: what they do to the world outside."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from blocks.odoo_host import OdooHost
from flows.odoo_db_backup import odoo_db_backup
from flows.odoo_db_restore import odoo_db_restore
from tests.integration.flows.odoo.real_sites import RealSite
from tests.support.mail_server import MailServer, mailing
from tests.support.real_odoo import RealOdoo

pytestmark = pytest.mark.gate


@pytest.fixture
def mails() -> Iterator[MailServer]:
    with mailing(MailServer()) as server:
        yield server


@pytest.fixture
def backup(real: RealSite, mails: MailServer) -> str:
    """A backup of an Odoo with a mail server and a mail that waits to be sent, and the database's name."""
    real.odoo.start("--max-cron-threads=0")  # its own job would send that mail when it is due
    server = {"name": "real", "smtp_host": "127.0.0.1", "smtp_port": mails.port, "smtp_encryption": "none"}
    real.odoo.call("ir.mail_server", "create", server)
    write(real.odoo, "of production")
    made = odoo_db_backup(real.database)
    return Path(made["file"]).name


def write(odoo: RealOdoo, subject: str) -> int:
    facts = {"subject": subject, "email_from": "shop@example.org", "email_to": "customer@example.org"}
    return int(odoo.call("mail.mail", "create", facts))


def send_all(odoo: RealOdoo) -> None:
    """What the scheduled job does, while it is active."""
    odoo.call("mail.mail", "process_email_queue")


@contextmanager
def served(real: RealSite, backup: str, folder: Path, **how: Any) -> Iterator[tuple[RealOdoo, dict[str, Any]]]:
    """The backup restored, with its filestore, and an Odoo of its own that serves it."""
    name = f"{real.database}_copy"
    odoo = RealOdoo(folder / "copy", real.odoo.postgres, name)
    result: dict[str, Any] = odoo_db_restore(name, backup, filestore_dir=str(odoo.filestore / name), **how)
    try:
        odoo.start()
        yield odoo, result
    finally:
        odoo.stop()
        with psycopg.connect(odoo.postgres.format(database="postgres"), autocommit=True) as db:
            db.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.mark.parametrize("asked", ["the room alone", "Odoo as well"])
def test_copy_that_an_odoo_serves_mails_nobody(
    real: RealSite, backup: str, mails: MailServer, tmp_path: Path, asked: str
) -> None:
    host = ""
    if asked == "Odoo as well":
        host = "of-the-shop"
        OdooHost(repo_dir=str(real.checkout)).save(host, overwrite=True)
    with served(real, backup, tmp_path, odoo_host=host) as (copy, result):
        assert result["neutralised"], result
        send_all(copy)
        written = write(copy, "of the copy")
        send_all(copy)
        assert copy.call("mail.mail", "read", [written], ["state"]) == [{"id": written, "state": "exception"}]
        assert mails.mails == []
        jobs = copy.call("ir.cron", "search_read", [], ["name"])
        assert len(jobs) == 1, jobs
    assert real.odoo.call("mail.mail", "search_count", [["state", "=", "outgoing"]]) == 1


def test_copy_as_production_goes_on_where_production_was(
    real: RealSite, backup: str, mails: MailServer, tmp_path: Path
) -> None:
    real.odoo.stop()
    with psycopg.connect(real.odoo.postgres.format(database=real.database)) as db:  # the other one is another, now
        db.execute("UPDATE ir_config_parameter SET value = gen_random_uuid() WHERE key = 'database.uuid'")
    with served(real, backup, tmp_path, as_production=True) as (copy, result):
        assert not result["neutralised"]
        send_all(copy)
        assert [b"of production" in mail for mail in mails.mails] == [True]
