"""The lines that make roles, found in what pg_dumpall wrote, whatever stands in its texts."""

from __future__ import annotations

from flows.restore.roles import create_lines

GLOBALS = """\
--
-- PostgreSQL database cluster dump; CREATE ROLE of_a_comment;
--

SET standard_conforming_strings = on;

CREATE ROLE odoo;
ALTER ROLE odoo WITH NOSUPERUSER LOGIN PASSWORD 'SCRAM-SHA-256$4096:secret''; CREATE ROLE of_a_password;';
CREATE ROLE "odd ""name;
x";
COMMENT ON ROLE odoo IS 'it''s
CREATE ROLE of_a_text;
';
ALTER ROLE odoo SET search_path TO 'a; CREATE ROLE of_a_setting;', E'\\\\';
CREATE ROLE last;
"""


def test_lines_that_make_roles_are_found_and_texts_are_passed_over() -> None:
    assert dict(create_lines(GLOBALS)) == {
        "odoo": "line 7 of its roles: CREATE ROLE odoo;",
        'odd "name;\nx': r'line 9 of its roles: CREATE ROLE "odd ""name;\nx";',
        "last": "line 15 of its roles: CREATE ROLE last;",
    }


def test_no_line_holds_a_password() -> None:
    assert not [line for _, line in create_lines(GLOBALS) if "secret" in line]
