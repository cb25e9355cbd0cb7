"""The key of a certificate is a file: a copy has neither the row nor the file, and another file stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.odoo_db_backup import odoo_db_backup
from flows.odoo_db_restore import odoo_db_restore
from flows.restore.filestore import Unpacked
from opsdb.errors import StepFailedError
from tests.integration.flows.copies.copied_odoo import Copied, copy, next_day, stored
from tests.support.folders import files
from tests.support.postgres import databases

KEYS = {
    "certificate.key/content": "of Odoo 18",
    "certificate.certificate/content": "of Odoo 18, with its key",
    "l10n_es_edi.certificate/content": "of Odoo 17, for Spain",
    "l10n_mx_edi.certificate/key": "of Odoo 16, for Mexico",
    "res.company/l10n_ar_afip_ws_key": "of a company",
    "l10n_cl.certificate/signature_key_file": "of Odoo 16, for Chile",
    "team.bank/pfx_file": "of a module of a team",
    "ir.mail_server/smtp_ssl_private_key": "of a mail server",
}


def with_keys(copied: Copied) -> set[str]:
    """Put keys into production; returns their files."""
    return {copied.attach(f"key {what}", copied.production, field=field) for field, what in KEYS.items()}


def test_files_of_keys_are_gone_from_a_copy(copied: Copied) -> None:
    copy(copied)
    keys = with_keys(copied)
    shared = copied.attach("also attached to a task", copied.production, field="certificate.key/content")
    copied.attach("also attached to a task", copied.production)
    picture = copied.attach("a picture", copied.production, field="res.partner/image_1920")
    document = copied.attach("a certificate of a course", copied.production, field="survey.user_input/certification")
    for what in list(KEYS.values())[:3]:  # as a copy has them that an older room made
        assert stored(copied.filestore, f"key {what}") in keys
    next_day(copied)
    done = copy(copied)["neutralised"]
    assert copied.check_whole() == "second day"
    there = set(files(copied.filestore))
    assert there & keys == set()
    assert {shared, picture, document} <= there
    assert keys <= set(files(copied.filestores / copied.production))
    assert (done["files_removed"], done["left"]["files of deleted rows"]) == (len(KEYS), 0)


def test_files_of_rows_that_a_teams_statement_deletes_are_gone_from_a_restored_copy(
    copied: Copied, folder: Path
) -> None:
    contract = copied.attach("a secret contract", copied.production)
    own = folder.parent / "copies"
    own.mkdir(mode=0o700)
    (own / f"{copied.production}.neutralize.sql").write_text("DELETE FROM ir_attachment WHERE name LIKE '%secret%'")
    odoo_db_backup(copied.production)
    name = f"{copied.production}_copy"
    result = odoo_db_restore(name, copied.production, filestore_dir=str(copied.filestores / name))
    assert set(files(copied.filestores / name)) == set(files(copied.filestores / copied.production)) - {contract}
    assert result["neutralised"]["files_removed"] == 1


def test_copy_whose_filestore_still_has_a_key_is_not_published(copied: Copied, monkeypatch: pytest.MonkeyPatch) -> None:
    with_keys(copied)
    odoo_db_backup(copied.production)
    before = databases(copied.postgres)
    monkeypatch.setattr(Unpacked, "remove", lambda *_: 0)
    said = "the copy is not safe to use, and was not published: .* and 5 more can hold keys"
    with pytest.raises(StepFailedError, match=said):
        copy(copied)
    assert databases(copied.postgres) == before
    assert not copied.filestore.exists()
