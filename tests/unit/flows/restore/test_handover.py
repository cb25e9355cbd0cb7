"""What a dump may say of owners and privileges, and what a forged one would like to."""

from __future__ import annotations

import pytest

from flows.backup.archive import TocEntry
from flows.restore.handover import _statements, _things
from opsdb.errors import StepFailedError


def entry(kind: str = "ACL", **texts: str) -> TocEntry:
    given = {"schema": "public", "name": "x", "owner": "odoo", "definition": "x", "drop": ""} | texts
    return TocEntry(1, kind, **given)


@pytest.mark.parametrize(
    "statement",
    [
        "GRANT SELECT ON TABLE public.res_users TO report WITH GRANT OPTION;",
        'GRANT SELECT(login,name),INSERT ON TABLE public."a;b" TO "TO evil; x";',
        "REVOKE USAGE ON SCHEMA public FROM PUBLIC;",
        "REVOKE ALL ON FUNCTION public.f(a integer, b text) FROM PUBLIC;",
        "ALTER DEFAULT PRIVILEGES FOR ROLE odoo IN SCHEMA public GRANT SELECT ON TABLES TO report;",
        "GRANT SELECT ON LARGE OBJECT 4711 TO report;",
        "GRANT USAGE ON FOREIGN SERVER s TO report;",
        'SET SESSION AUTHORIZATION "re port";',
        "RESET SESSION AUTHORIZATION;",
    ],
)
def test_privileges_of_a_dump_are_taken(statement: str) -> None:
    assert _statements(entry(definition=f"{statement}\n{statement}\n")) == [statement, statement]


@pytest.mark.parametrize(
    "statement",
    [
        "GRANT postgres TO evil;",
        "GRANT pg_execute_server_program TO evil;",
        'GRANT "x ON TABLE y" TO evil;',
        "GRANT ALL ON PARAMETER session_preload_libraries TO evil;",
        "GRANT ALL ON TABLESPACE pg_default TO evil;",
        "GRANT ALL ON DATABASE other TO evil;",
        "GRANT ALL ON FUNCTION pg_catalog.pg_read_file(text) TO evil;",
        "ALTER ROLE evil SUPERUSER;",
        "GRANT SELECT ON TABLE x TO y; ALTER ROLE evil SUPERUSER;",
        'GRANT SELECT ON TABLE x TO "y"";"; ALTER ROLE evil SUPERUSER; --";',
        "SET SESSION AUTHORIZATION evil, x;",
        "DO $$ BEGIN END $$;",
    ],
)
def test_what_is_no_privilege_of_this_database_is_refused(statement: str) -> None:
    with pytest.raises(StepFailedError, match="is not a privilege"):
        _statements(entry(definition=statement))


def test_things_are_named_as_pg_restore_names_them() -> None:
    assert list(_things(entry("TABLE", name='a"b'))) == ['TABLE "public"."a""b"']
    assert list(_things(entry("SCHEMA", schema="", name="s"))) == ['SCHEMA "s"']
    assert list(_things(entry("FUNCTION", drop='DROP FUNCTION public."f;x"(a integer);\n'))) == [
        'FUNCTION public."f;x"(a integer)'
    ]
    assert list(_things(entry("BLOB METADATA", definition="4711\n4712\n"))) == [
        "LARGE OBJECT 4711",
        "LARGE OBJECT 4712",
    ]
    assert list(_things(entry("BLOB", name="4711"))) == ["LARGE OBJECT 4711"]
    assert list(_things(entry("INDEX"))) == []
    assert list(_things(entry("TABLE", owner=""))) == []
