"""What programs write when they fail, as they wrote it, and the reason that operators are shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.run.view import error_lines
from flows.shell.reason import explained
from flows.shell.run import ShellFailedError
from tests.support.steps import Room

PG_DUMP = """\
pg_dump: error: Dumping the contents of table "x" failed: PQgetResult() failed.
pg_dump: detail: Error message from server: ERROR:  invalid byte sequence for encoding "UTF8": 0xe2 0x98
pg_dump: detail: Command was: COPY public.x (a) TO stdout;
"""
SHOWN = (
    'pg_dump: error: Dumping the contents of table "x" failed: PQgetResult() failed: '
    'ERROR: invalid byte sequence for encoding "UTF8": 0xe2 0x98'
)

WRITTEN = {
    "pg_dump of 15": (PG_DUMP, SHOWN),
    "pg_dump of 13": (
        PG_DUMP.replace("detail: Error", "error: Error").replace("detail: Command", "error: The command"),
        SHOWN,
    ),
    "pg_dump that waits for a lock": (
        "pg_dump: error: query failed: ERROR:  canceling statement due to lock timeout\n"
        "pg_dump: detail: Query was: LOCK TABLE public.dup IN ACCESS SHARE MODE\n",
        "pg_dump: error: query failed: ERROR: canceling statement due to lock timeout",
    ),
    "pg_dump with advice": (
        "pg_dump: error: aborting because of server version mismatch\n"
        "pg_dump: detail: server version: 18.0; pg_dump version: 15.18\n",
        "pg_dump: error: aborting because of server version mismatch. "
        "Detail: server version: 18.0; pg_dump version: 15.18",
    ),
    "pg_dumpall": (
        "pg_dumpall: error: query failed: ERROR:  permission denied for table pg_authid\n"
        "pg_dumpall: detail: Query was: SELECT oid, rolname FROM pg_authid WHERE rolname !~ '^pg_' ORDER BY 2\n",
        "pg_dumpall: error: query failed: ERROR: permission denied for table pg_authid",
    ),
    "pg_restore": (
        'pg_restore: while PROCESSING TOC:\npg_restore: from TOC entry 215; 1259 16386 TABLE "failed" postgres\n'
        'pg_restore: error: could not execute query: ERROR:  relation "dup" already exists\n'
        "Command was: CREATE TABLE public.dup (\n    id integer\n);\n\n\n",
        'pg_restore: error: could not execute query: ERROR: relation "dup" already exists',
    ),
    "pg_restore of rows": (
        'pg_restore: error: COPY failed for table "t": ERROR:  duplicate key value violates '
        'unique constraint "t_pkey"\n'
        "DETAIL:  Key (id)=(1) already exists.\nCONTEXT:  COPY t, line 2\n"
        "pg_restore: warning: errors ignored on restore: 1\n",
        'pg_restore: error: COPY failed for table "t": ERROR: duplicate key value violates unique constraint "t_pkey". '
        "Detail: Key (id)=(1) already exists.",
    ),
    "pg_restore whose known errors do not count": (
        "pg_restore: error: could not execute query: ERROR:  unrecognized configuration parameter "
        '"transaction_timeout"\n'
        "Command was: SET transaction_timeout = 0;\n"
        'pg_restore: error: could not execute query: ERROR:  type "vector" does not exist\n'
        "pg_restore: warning: errors ignored on restore: 2\n"
        "pg_restore could not load the dump. Its first error: pg_restore-1f: error: could not execute query: "
        'ERROR:  type "vector" does not exist\n',
        'pg_restore-1f: error: could not execute query: ERROR: type "vector" does not exist',
    ),
    "psql without a server": (
        'psql: error: connection to server at "127.0.0.1", port 1 failed: Connection refused\n'
        "\tIs the server running on that host and accepting TCP/IP connections?\n",
        'psql: error: connection to server at "127.0.0.1", port 1 failed: Connection refused',
    ),
    "psql": (
        "NOTICE:  relation was not found, skipping\n"
        'ERROR:  duplicate key value violates unique constraint "t_pkey"\nDETAIL:  Key (id)=(1) already exists.\n',
        'ERROR: duplicate key value violates unique constraint "t_pkey". Detail: Key (id)=(1) already exists.',
    ),
    "psql with a hint": (
        "psql:up.sql:7: ERROR:  function now(integer) does not exist\nLINE 1: select now(1);\n               ^\n"
        "HINT:  No function matches the given name and argument types. You might need to add explicit type casts.\n",
        "psql:up.sql:7: ERROR: function now(integer) does not exist. Hint: No function matches the given name and "
        "argument types. You might need to add explicit type casts.",
    ),
    "tar": (
        "tar: Removing leading `/' from member names\ntar: /nonexistent: Cannot stat: No such file or directory\n"
        "tar: Exiting with failure status due to previous errors\n",
        "tar: /nonexistent: Cannot stat: No such file or directory",
    ),
    "tar of a gzip": (
        "\ngzip: stdin: not in gzip format\ntar: Child returned status 1\ntar: Error is not recoverable: exiting now\n",
        "gzip: stdin: not in gzip format",
    ),
    "rsync": (
        'rsync: [sender] link_stat "/srv/nix" failed: No such file or directory (2)\n'
        "rsync error: some files/attrs were not transferred (see previous errors) (code 23) at main.c(1338) "
        "[sender=3.2.7]\n",
        'rsync: [sender] link_stat "/srv/nix" failed: No such file or directory (2)',
    ),
    "rsync over ssh": (
        "ssh: connect to host backup port 22: Connection refused\n"
        "rsync: connection unexpectedly closed (0 bytes received so far) [sender]\n"
        "rsync error: unexplained error (code 255) at io.c(231) [sender=3.2.7]\n",
        "ssh: connect to host backup port 22: Connection refused",
    ),
    "ssh": (
        "Warning: Permanently added '10.0.0.1' (ED25519) to the list of known hosts.\n"
        "odoo@10.0.0.1: Permission denied (publickey).\n",
        "odoo@10.0.0.1: Permission denied (publickey).",
    ),
    "ssh to another host": (
        "@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@\n"
        "@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\n"
        "IT IS POSSIBLE THAT SOMEONE IS DOING SOMETHING NASTY!\n"
        "Host key for 10.0.0.1 has changed and you have requested strict checking.\nHost key verification failed.\n",
        "Host key verification failed.",
    ),
    "scp": (
        "ssh: Could not resolve hostname shop: Name or service not known\nlost connection\n",
        "ssh: Could not resolve hostname shop: Name or service not known",
    ),
    "s3cmd": (
        "WARNING: Retrying failed request: /?location (timed out)\nWARNING: Waiting 3 sec...\n"
        "ERROR: S3 error: 403 (AccessDenied): Access Denied\n",
        "ERROR: S3 error: 403 (AccessDenied): Access Denied",
    ),
    "git": (
        "error: pathspec 'nosuch' did not match any file(s) known to git\n",
        "error: pathspec 'nosuch' did not match any file(s) known to git",
    ),
    "git that may not read": (
        "Cloning into 'odoo'...\ngit@github.com: Permission denied (publickey).\n"
        "fatal: Could not read from remote repository.\n\n"
        "Please make sure you have the correct access rights\nand the repository exists.\n",
        "git@github.com: Permission denied (publickey).",
    ),
    "git that was overtaken": (
        "To example.com:odoo.git\n ! [rejected]        main -> main (fetch first)\n"
        "error: failed to push some refs to 'example.com:odoo.git'\n"
        "hint: Updates were rejected because the remote contains work that you do not\nhint: have locally.\n",
        "error: failed to push some refs to 'example.com:odoo.git'. "
        "Hint: Updates were rejected because the remote contains work that you do not",
    ),
    "odoo": (
        "2026-03-01 02:00:01,123 77 WARNING shop odoo.modules: module sale: not found, ignored\n"
        "2026-03-01 02:00:02,123 77 ERROR shop odoo.modules.registry: Failed to load registry\n"
        "Traceback (most recent call last):\n"
        '  File "/opt/odoo/odoo/modules/registry.py", line 87, in new\n    odoo.modules.load_modules(registry)\n'
        '  File "/opt/odoo/odoo/sql_db.py", line 332, in execute\n    res = self._obj.execute(query, params)\n'
        'psycopg2.errors.UndefinedColumn: column "x_new" does not exist\nLINE 1: SELECT x_new FROM sale_order\n'
        "               ^\n\n2026-03-01 02:00:03,123 77 INFO shop odoo.service.server: Initiating shutdown\n",
        'psycopg2.errors.UndefinedColumn: column "x_new" does not exist',
    ),
    "odoo whose view does not fit": (
        "2026-03-01 02:00:02,123 77 ERROR shop odoo.modules.registry: Failed to load registry \n"
        "2026-03-01 02:00:02,123 77 CRITICAL shop odoo.service.server: Failed to initialize database `shop`. \n"
        "Traceback (most recent call last):\n"
        '  File "/opt/odoo/odoo/tools/convert.py", line 548, in _tag_root\n    raise ParseError(msg) from None\n'
        "odoo.tools.convert.ParseError: while parsing /mnt/addons/shop/views/v.xml:1\n"
        "Error while parsing or validating view:\n\n"
        "Element '<field name=\"no_such_field_x\">' cannot be located in parent view\n\n"
        "View error context:\n{'file': '/mnt/addons/shop/views/v.xml',\n 'view': ir.ui.view(996,)}\n\n"
        "2026-03-01 02:00:03,123 77 INFO shop odoo.service.server: Initiating shutdown \n",
        "odoo.tools.convert.ParseError: while parsing /mnt/addons/shop/views/v.xml:1 Error while parsing or validating "
        "view: Element '<field name=\"no_such_field_x\">' cannot be located in parent view",
    ),
    "odoo that says where and not why": (
        "2026-03-01 02:00:02,123 77 CRITICAL shop odoo.service.server: Failed to initialize database `shop`. \n"
        'Traceback (most recent call last):\n  File "a.py", line 3, in ref\n    raise ValueError(text)\n'
        "ValueError: External ID not found in the system: base.no_such_view\n\n"
        "The above exception was the direct cause of the following exception:\n\n"
        'Traceback (most recent call last):\n  File "b.py", line 3, in _tag_root\n    raise ParseError(text)\n'
        "odoo.tools.convert.ParseError: while parsing /mnt/addons/shop/views/v.xml:1, somewhere inside\n"
        '<record id="v1" model="ir.ui.view"/>\n'
        "2026-03-01 02:00:03,123 77 INFO shop odoo.service.server: Initiating shutdown \n",
        "ValueError: External ID not found in the system: base.no_such_view (odoo.tools.convert.ParseError: while "
        "parsing /mnt/addons/shop/views/v.xml:1, somewhere inside)",
    ),
    "odoo without a traceback": (
        "2026-03-01 02:00:01,123 77 WARNING shop odoo.addons.base.models.ir_ui_view: Element cannot be found\n"
        "View error context:\n{'name': 'error: x'}\n"
        "2026-03-01 02:00:02,123 77 ERROR shop odoo.modules.loading: Some modules are not loaded: ['x']\n"
        "2026-03-01 02:00:03,123 77 CRITICAL shop odoo.service.server: it cannot go on\n",
        "odoo.modules.loading: Some modules are not loaded: ['x']",
    ),
    "odoo that survived an error and failed later": (
        "2026-03-01 02:00:01,123 77 ERROR shop odoo.addons.mail: could not send \n"
        'Traceback (most recent call last):\n  File "a.py", line 3, in send\n    raise OSError(text)\n'
        "OSError: no mail server\n"
        "2026-03-01 02:00:02,123 77 INFO shop odoo.modules.loading: Loading module sale (3/9)\n"
        "2026-03-01 02:00:03,123 77 ERROR shop odoo.modules.loading: Some modules are not loaded: ['x']\n"
        "2026-03-01 02:00:03,123 77 CRITICAL shop odoo.service.server: it cannot go on\n",
        "odoo.modules.loading: Some modules are not loaded: ['x']",
    ),
    "odoo that warned with a traceback, and docker that failed": (
        "2026-03-01 02:00:01,123 77 WARNING shop odoo.addons.mail: could not send\n"
        'Traceback (most recent call last):\n  File "a.py", line 3, in send\n    raise OSError(text)\n'
        "OSError: no mail server\n"
        "2026-03-01 02:00:02,123 77 INFO shop odoo.modules.loading: Loading module sale (3/9)\n"
        "Error response from daemon: the container is gone\n",
        "Error response from daemon: the container is gone",
    ),
    "odoo that an exception ends in the middle": (
        "2026-03-01 02:00:02,123 77 INFO shop odoo.modules.loading: Loading module sale (3/9)\n"
        'Traceback (most recent call last):\n  File "a.py", line 3, in load\n    raise OSError(text)\n'
        "OSError: no file\nerror: it cannot be had\n",
        "OSError: no file",
    ),
    "odoo that only warned": (
        "2026-03-01 02:00:01,123 77 WARNING shop odoo.addons.mail: could not send\n"
        'Traceback (most recent call last):\n  File "a.py", line 3, in send\n    raise OSError(text)\n'
        "OSError: no mail server\n"
        "2026-03-01 02:00:02,123 77 INFO shop odoo.service.server: Initiating shutdown\n",
        "OSError: no mail server",
    ),
    "odoo whose farewell follows the reason": (
        "2026-03-01 02:00:02,123 77 ERROR shop odoo.modules.registry: Failed to load registry\n"
        'Traceback (most recent call last):\n  File "a.py", line 3, in load\n    raise KeyError(text)\n'
        "KeyError: 'sale.order'\n"
        "2026-03-01 02:00:02,123 77 CRITICAL shop odoo.service.server: Failed to initialize database `shop`.\n",
        "KeyError: 'sale.order'",
    ),
    "time limit of a step": (
        "2026-03-01 02:00:02,123 77 ERROR shop odoo.sql_db: bad query\nThe reason: time limit of 290 s reached\n",
        "time limit of 290 s reached",
    ),
    "docker whose container is there": (
        ' Container shop-db-1  Running\nError response from daemon: Conflict. The container name "/x" is in use\n'
        "see the daemon's log\n",
        'Error response from daemon: Conflict. The container name "/x" is in use',
    ),
    "docker compose with remarks": (
        'WARN[0000] /srv/c.yml: the attribute `version` is obsolete, it cannot be used\ntime="2026" level=warning '
        'msg="The \\"X\\" variable is not set. Defaulting to a blank string; cannot"\nno such service: web\n',
        "no such service: web",
    ),
    "python that failed while it failed": (
        "Traceback (most recent call last):\n  File \"a.py\", line 1, in <module>\nKeyError: 'a'\n\n"
        "During handling of the above exception, another exception occurred:\n\n"
        'Traceback (most recent call last):\n  File "a.py", line 3, in <module>\nRuntimeError: no key\n',
        "RuntimeError: no key",
    ),
    "bash": ("bash: line 3: foo: command not found\n", "bash: line 3: foo: command not found"),
    "apt": (
        "Reading package lists...\nE: Unable to locate package postgresql-19\n",
        "E: Unable to locate package postgresql-19",
    ),
    "words of a step": (
        "the file on disk is not what pg_dump wrote: its sha256 differs\n",
        "the file on disk is not what pg_dump wrote: its sha256 differs",
    ),
    "usage": (
        "foo: unrecognized option '--x'\nTry 'foo --help' for more information.\n",
        "foo: unrecognized option '--x'",
    ),
    "nothing but remarks": ("hint: a\nhint: b\n", "hint: b"),
}


@pytest.mark.parametrize(("written", "reason"), WRITTEN.values(), ids=WRITTEN)
def test_reason_is_what_failed_and_why(written: str, reason: str) -> None:
    assert explained(written)[0] == reason


def test_other_lines_follow_once_and_the_last_of_them() -> None:
    assert explained(PG_DUMP) == [SHOWN, "pg_dump: detail: Command was: COPY public.x (a) TO stdout;"]
    many = "it cannot go on\n" + "".join(f"{number}\n" for number in range(30))
    assert explained(many) == ["it cannot go on", *(str(number) for number in range(21, 30))]
    assert explained(" \n\n") == []
    assert [len(line) for line in explained("cannot " + "x" * 5000)] == [500]


def test_failed_step_and_its_run_show_what_failed_and_the_servers_reason(tmp_path: Path) -> None:
    room = Room(tmp_path)
    with pytest.raises(ShellFailedError) as failed:
        room('printf "%s" "$SAID" >&2; exit 1', env={"SAID": PG_DUMP})
    message = str(failed.value)
    assert message.splitlines()[:2] == ["step 1 failed: exit code 1", f"| {SHOWN}"]
    assert error_lines({"type": "ShellFailed", "message": message})[1] == f"| {SHOWN}"
