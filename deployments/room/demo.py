"""Databases to try the runbooks on: `odoo_prod` and `odoo_staging`, made up, on the embedded PostgreSQL."""

from __future__ import annotations

import psycopg
from psycopg import sql

from opsdb.errors import UsageError
from opsdb.settings import Settings

DATABASES = {"odoo_prod": 20_000, "odoo_staging": 2_000}
"""Name and number of sale orders; about four rows go with each."""
OWNER = "odoo"

# The tables and columns are those of Odoo 18 by name, a small part of each. %(orders)s: how many sale orders.
TABLES = """
CREATE TABLE res_company (id serial PRIMARY KEY, name varchar NOT NULL UNIQUE, create_date timestamp);
CREATE TABLE res_partner (
    id serial PRIMARY KEY, name varchar NOT NULL, email varchar, phone varchar, city varchar, vat varchar,
    is_company boolean NOT NULL DEFAULT false, parent_id integer REFERENCES res_partner ON DELETE SET NULL,
    company_id integer REFERENCES res_company, active boolean NOT NULL DEFAULT true, create_date timestamp
);
CREATE TABLE res_users (
    id serial PRIMARY KEY, login varchar NOT NULL UNIQUE, password varchar, active boolean NOT NULL DEFAULT true,
    partner_id integer NOT NULL REFERENCES res_partner ON DELETE RESTRICT,
    company_id integer NOT NULL REFERENCES res_company, create_date timestamp
);
CREATE TABLE product_template (
    id serial PRIMARY KEY, name jsonb NOT NULL, default_code varchar, list_price numeric(12, 2) NOT NULL,
    type varchar NOT NULL DEFAULT 'consu', active boolean NOT NULL DEFAULT true
);
CREATE TABLE sale_order (
    id serial PRIMARY KEY, name varchar NOT NULL, state varchar NOT NULL, date_order timestamp NOT NULL,
    partner_id integer NOT NULL REFERENCES res_partner ON DELETE RESTRICT,
    user_id integer REFERENCES res_users ON DELETE SET NULL, company_id integer NOT NULL REFERENCES res_company,
    amount_untaxed numeric(14, 2), amount_tax numeric(14, 2), amount_total numeric(14, 2), note text
);
CREATE TABLE sale_order_line (
    id serial PRIMARY KEY, order_id integer NOT NULL REFERENCES sale_order ON DELETE CASCADE,
    product_template_id integer REFERENCES product_template, name text NOT NULL, sequence integer,
    product_uom_qty numeric(12, 2) NOT NULL, price_unit numeric(12, 2) NOT NULL, price_subtotal numeric(14, 2)
);
CREATE TABLE account_move (
    id serial PRIMARY KEY, name varchar, move_type varchar NOT NULL, state varchar NOT NULL, date date NOT NULL,
    partner_id integer REFERENCES res_partner ON DELETE RESTRICT,
    invoice_origin varchar, amount_total numeric(14, 2), payment_state varchar
);
CREATE TABLE ir_module_module (
    id serial PRIMARY KEY, name varchar NOT NULL UNIQUE, state varchar NOT NULL, latest_version varchar,
    author varchar, license varchar
);
CREATE TABLE ir_attachment (
    id serial PRIMARY KEY, name varchar NOT NULL, res_model varchar, res_id integer, type varchar NOT NULL,
    mimetype varchar, file_size integer, checksum varchar(40), store_fname varchar, db_datas bytea
);
CREATE TABLE ir_config_parameter (id serial PRIMARY KEY, key varchar NOT NULL UNIQUE, value text NOT NULL);
CREATE TABLE ir_model_data (id serial PRIMARY KEY, module varchar, name varchar, model varchar, res_id integer);
CREATE TABLE ir_cron (id serial PRIMARY KEY, cron_name varchar, active boolean);
CREATE TABLE ir_mail_server (
    id serial PRIMARY KEY, name varchar NOT NULL, smtp_host varchar, smtp_port integer, smtp_user varchar,
    smtp_pass varchar, smtp_encryption varchar NOT NULL, smtp_authentication varchar NOT NULL, active boolean
);
CREATE TABLE mail_mail (id serial PRIMARY KEY, email_to text, state varchar);
"""

ROWS = """
INSERT INTO res_company (name, create_date)
VALUES ('Brightwater Trading', '2021-03-01'), ('Brightwater Services', '2023-01-15');
INSERT INTO res_partner (name, email, phone, city, vat, is_company, parent_id, company_id, create_date)
SELECT CASE WHEN n % 5 = 1 THEN (ARRAY['Alder','Basalt','Cobalt','Delta','Ember','Fjord','Granite','Harbor'])[1 + n % 8]
            || ' ' || (ARRAY['Foods','Logistics','Optics','Textiles','Tools'])[1 + n / 8 % 5] || ' ' || n
       ELSE (ARRAY['Ana','Björn','Chloé','Dario','Emre','Fatima','Grace','Hiro','Inés','Jakub'])[1 + n % 10]
            || ' ' || (ARRAY['Novak','Okafor','Petit','Quiroga','Rossi','Santos','Tanaka'])[1 + n / 10 % 7] END,
       'contact' || n || '@example.com', '+1 555 ' || lpad((n % 10000)::text, 4, '0'),
       (ARRAY['Lisbon','Utrecht','Graz','Kraków','Turku'])[1 + n % 5],
       CASE WHEN n % 5 = 1 THEN 'EU' || lpad(n::text, 9, '0') END, n % 5 = 1,
       CASE WHEN n % 5 <> 1 THEN n - (n + 4) % 5 END, 1 + n % 2, timestamp '2021-03-01' + n * interval '3 hours'
FROM generate_series(1, %(orders)s / 4) n;
INSERT INTO res_users (login, password, partner_id, company_id, create_date)
SELECT 'user' || n || '@example.com', '$pbkdf2-sha512$600000$' || md5(n::text) || '$' || md5((n * 7)::text), n,
       1 + n % 2, timestamp '2021-03-02' + n * interval '9 days'
FROM generate_series(1, 40) n;
INSERT INTO product_template (name, default_code, list_price)
SELECT jsonb_build_object('en_US', 'Item ' || n, 'fr_FR', 'Article ' || n), 'SKU-' || lpad(n::text, 5, '0'),
       4 + n * 37 % 900
FROM generate_series(1, 400) n;
INSERT INTO sale_order (name, state, date_order, partner_id, user_id, company_id, note)
SELECT 'S' || lpad(n::text, 5, '0'), (ARRAY['draft','sent','sale','sale','sale','cancel'])[1 + n % 6],
       timestamp '2022-01-03' + n * interval '97 minutes', 1 + n * 13 % (%(orders)s / 4), 1 + n % 40, 1 + n % 2,
       CASE WHEN n % 11 = 0 THEN 'Deliver to the gate, ask for "Nuño"; call first.' END
FROM generate_series(1, %(orders)s) n;
INSERT INTO sale_order_line (order_id, product_template_id, name, sequence, product_uom_qty, price_unit, price_subtotal)
SELECT o, p.id, p.name ->> 'en_US', k * 10, 1 + (o + k) % 9, p.list_price, p.list_price * (1 + (o + k) % 9)
FROM generate_series(1, %(orders)s) o CROSS JOIN generate_series(1, 2) k
JOIN product_template p ON p.id = 1 + (o * 31 + k * 17) % 400;
UPDATE sale_order SET amount_untaxed = s.total, amount_tax = round(s.total * 0.2, 2),
       amount_total = round(s.total * 1.2, 2)
FROM (SELECT order_id, sum(price_subtotal) AS total FROM sale_order_line GROUP BY order_id) s
WHERE s.order_id = sale_order.id;
INSERT INTO account_move (name, move_type, state, date, partner_id, invoice_origin, amount_total, payment_state)
SELECT 'INV/' || extract(year FROM date_order) || '/' || lpad(id::text, 5, '0'), 'out_invoice', 'posted',
       date_order::date, partner_id, name, amount_total, (ARRAY['paid','paid','not_paid','partial'])[1 + id % 4]
FROM sale_order WHERE state = 'sale' AND id % 2 = 0;
INSERT INTO ir_module_module (name, state, latest_version, author, license)
SELECT name, state, '18.0.1.' || length(name) % 4, 'Odoo S.A.', 'LGPL-3'
FROM (SELECT unnest(ARRAY['base','web','mail','sale','sale_management','account','stock','crm','project']), 'installed'
      UNION ALL SELECT unnest(ARRAY['website','mrp','hr']), 'uninstalled') AS module (name, state);
INSERT INTO ir_attachment (name, res_model, res_id, type, mimetype, file_size, checksum, store_fname, db_datas)
SELECT 'scan-' || n || '.pdf', 'sale.order', n, 'binary', 'application/pdf', 2000 + n * 97 % 90000,
       md5(n::text) || '00000000', left(md5(n::text), 2) || '/' || md5(n::text), decode(repeat(md5(n::text), 8), 'hex')
FROM generate_series(1, %(orders)s / 10) n;
INSERT INTO ir_config_parameter (key, value)
VALUES ('database.uuid', gen_random_uuid()::text), ('web.base.url', 'http://odoo.example.com'),
       ('database.secret', gen_random_uuid()::text), ('database.is_neutralized', 'false');
INSERT INTO ir_cron (cron_name, active)
VALUES ('Base: Auto-vacuum internal data', true), ('Mail: Email Queue Manager', true),
       ('Sale: send pending emails', true);
INSERT INTO ir_model_data (module, name, model, res_id) VALUES ('base', 'autovacuum_job', 'ir.cron', 1);
INSERT INTO ir_mail_server (name, smtp_host, smtp_port, smtp_encryption, smtp_authentication, active)
VALUES ('Outgoing', 'smtp.example.com', 587, 'starttls', 'login', true);
INSERT INTO mail_mail (email_to, state)
SELECT 'contact' || n || '@example.com', CASE WHEN n % 10 = 0 THEN 'outgoing' ELSE 'sent' END
FROM generate_series(1, 200) n;
"""

INDEXES = """
CREATE INDEX res_partner_name_idx ON res_partner (name);
CREATE INDEX res_partner_email_idx ON res_partner (lower(email));
CREATE INDEX sale_order_partner_id_idx ON sale_order (partner_id);
CREATE INDEX sale_order_date_order_idx ON sale_order (date_order DESC, id DESC);
CREATE INDEX sale_order_line_order_id_idx ON sale_order_line (order_id);
CREATE INDEX account_move_open_idx ON account_move (partner_id) WHERE payment_state <> 'paid';
CREATE INDEX ir_attachment_res_idx ON ir_attachment (res_model, res_id);
ANALYZE res_partner, res_users, sale_order, sale_order_line, account_move, ir_attachment;
"""


def check_demo(settings: Settings) -> None:
    """Raise UsageError unless the room brings its own PostgreSQL: made-up data has no place on another server."""
    if not settings.embedded or settings.odoo_database_url is not None:
        raise UsageError(
            "--demo works on the embedded PostgreSQL only: unset OPS_DATABASE_URL and OPS_ODOO_DATABASE_URL"
        )


def make_databases(settings: Settings) -> list[str]:
    """Make the demo databases that are missing or were left unfinished. Returns the names of those it filled."""
    check_demo(settings)
    return [name for name, orders in DATABASES.items() if _make(settings, name, orders)]


def _make(settings: Settings, name: str, orders: int) -> bool:
    server = f"postgresql://postgres@/{{}}?host={settings.socket_dir}"
    with psycopg.connect(server.format("postgres"), autocommit=True) as db:
        if not db.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [OWNER]).fetchone():
            db.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(OWNER)))
        if not db.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
            parts = sql.Identifier(name), sql.Identifier(OWNER)
            db.execute(sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE template0").format(*parts))
    with psycopg.connect(server.format(name)) as db:  # one transaction: filled, or empty
        if db.execute("SELECT to_regclass('public.res_partner')").fetchone() != (None,):
            return False
        db.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(OWNER)))
        db.execute("SET LOCAL synchronous_commit = off")
        rows = ROWS.replace("%(orders)s", str(int(orders)))
        for statements in (TABLES, rows, INDEXES):
            db.execute(statements.encode())
    return True
