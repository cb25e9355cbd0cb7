"""SQL text taken apart as psql takes it apart."""

from __future__ import annotations

import pytest

from flows.copies.statements import refused_text, split


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("UPDATE a SET b = 1; UPDATE c SET d = 2", ["UPDATE a SET b = 1", "UPDATE c SET d = 2"]),
        ("UPDATE a SET b = 'it''s; 1';SELECT 1;", ["UPDATE a SET b = 'it''s; 1'", "SELECT 1"]),
        (r"UPDATE a SET b = E'it\'s; 1'; SELECT 1", [r"UPDATE a SET b = E'it\'s; 1'", "SELECT 1"]),
        (r"UPDATE a SET b = 'c\'; SELECT 1", [r"UPDATE a SET b = 'c\'", "SELECT 1"]),
        ('DELETE FROM "odd;""name"; SELECT 1', ['DELETE FROM "odd;""name"', "SELECT 1"]),
        ("DO $$ BEGIN PERFORM 1; END $$; SELECT 1", ["DO $$ BEGIN PERFORM 1; END $$", "SELECT 1"]),
        ("DO $x$ BEGIN '$$;' END $x$; SELECT $1", ["DO $x$ BEGIN '$$;' END $x$", "SELECT $1"]),
        ("-- first; it's\nSELECT 1 -- last;\n;", ["SELECT 1"]),
        ("/* a; b */ SELECT 1 / 2 - 1; -- end", ["SELECT 1 / 2 - 1"]),
        ("BEGIN;\nSELECT 1;\nCOMMIT;\n", ["SELECT 1"]),
        (" ;;\n; ", []),
        ("SELECT Exists(SELECT 1) AS e; SELECT e'x'", ["SELECT Exists(SELECT 1) AS e", "SELECT e'x'"]),
    ],
)
def test_text_is_split_where_a_statement_ends(text: str, parts: list[str]) -> None:
    assert [one.text for one in split(text)] == parts


def test_title_has_line_verb_and_table_and_no_value() -> None:
    text = (
        "-- hello\n\nUPDATE res_users\n SET password = 'secret-word';\nINSERT INTO public.\"x y\" VALUES ('a');\nVACUUM"
    )
    assert [one.title for one in split(text)] == [
        "line 3: UPDATE res_users", 'line 5: INSERT INTO public."x', "line 6: VACUUM",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("SELECT 1;\n\\copy a TO 'b'", "line 2: a backslash begins a command of psql's own. Hint: write it as SQL"),
        ("\\set x 1", "line 1: a backslash"),
        ("SELECT 1 \\gexec", "line 1: a backslash"),
        ("SELECT 1;\nUPDATE a SET b = 'it's'", "line 2: ' opens what is never closed"),
        ('\nSELECT "a', 'line 2: " opens what is never closed'),
        ("SELECT 1 /* for ever", "line 1: /* opens what is never closed"),
        ("BEGIN; UPDATE a SET b = 1;\nROLLBACK;", "line 2: ROLLBACK: each statement is a transaction of its own here"),
        ("SAVEPOINT a", "line 1: SAVEPOINT a: each statement"),
        ("COPY a FROM STDIN", "line 1: COPY a: nobody is there to read from"),
    ],
)
def test_text_that_cannot_be_sent_is_refused_with_its_line(text: str, said: str) -> None:
    assert (refused_text(text) or "").startswith(said)


@pytest.mark.parametrize(
    "text",
    [
        r"UPDATE a SET b = 'c:\d', e = E'\'' WHERE f ~ '\d'; -- it's \ over",
        "BEGIN; DO $$ BEGIN RAISE 'a\\b'; COMMIT; ROLLBACK; END $$; COMMIT;",
        "/* it's */ SELECT 4 / 2 - 1 AS \"it's\", $1",
        "COPY a TO '/tmp/b'",
    ],
)
def test_text_that_can_be_sent_is_left_to_the_server(text: str) -> None:
    assert refused_text(text) is None
