"""A database as Odoo makes it: the sample of a real one where it lies beside the checkout, else a small made-up one."""

from __future__ import annotations

import lzma
import re
import subprocess
from pathlib import Path

import psycopg

from deployments.room.postgres import PROGRAMS

SAMPLE = Path(__file__).parents[2].parent / "shared" / "data" / "odoo18"
"""Its README.md says what it holds."""
_MADE_UP = """
CREATE TABLE res_users (id serial PRIMARY KEY, login varchar NOT NULL UNIQUE, active boolean DEFAULT true);
CREATE TABLE res_partner (id serial PRIMARY KEY, user_id int REFERENCES res_users, name jsonb, type varchar,
    CHECK (type IN ('contact', 'other')));
CREATE INDEX ON res_partner (lower(type)) WHERE user_id IS NOT NULL;
CREATE VIEW active_users AS SELECT * FROM res_users WHERE active;
INSERT INTO res_users (login) VALUES ('admin'), ('demo');
INSERT INTO res_partner (user_id, name, type) SELECT 1, '{"en_US": "A"}', 'contact' FROM generate_series(1, 1000);
"""


def make_odoo_database(postgres: str, name: str, *, owner: str) -> None:
    """Make it on a server, with all in it belonging to `owner`, a role that is there."""
    with psycopg.connect(postgres.format(database="postgres"), autocommit=True) as db:
        db.execute(f'CREATE DATABASE "{name}" TEMPLATE template0 OWNER "{owner}"')
    url = postgres.format(database=name)
    if not SAMPLE.is_dir():
        with psycopg.connect(url) as db:
            db.execute(f'SET ROLE "{owner}"')
            db.execute(_MADE_UP)
        return
    with psycopg.connect(url) as db:
        db.execute((SAMPLE / "prepare.sql").read_bytes())
    text = lzma.decompress((SAMPLE / "odoo18.sql.xz").read_bytes())
    text = re.sub(rb"^COMMENT ON EXTENSION .*;$", b"", text, flags=re.MULTILINE)  # for whoever owns the extension
    psql = [str(PROGRAMS / "psql"), "--quiet", "--no-psqlrc", "-v", "ON_ERROR_STOP=1", f"--dbname={url}", "--file=-"]
    subprocess.run(
        psql, input=f'SET ROLE "{owner}";\n'.encode() + text, stdout=subprocess.DEVNULL, check=True, timeout=120
    )
