"""A small database with the tables of an Odoo, in which everything acts that a copy must not do."""

from __future__ import annotations

from uuid import NAMESPACE_DNS, uuid5

import psycopg

SECRET = "d32d5962-34b7-481f-857c-a9af87a8152f"
MODULES = """
CREATE TABLE ir_module_module (id serial PRIMARY KEY, name varchar NOT NULL, state varchar, latest_version varchar);
INSERT INTO ir_module_module (name, state, latest_version) VALUES ('base', 'installed', '18.0.1.3'),
    ('mail', 'installed', '18.0.1.18');
"""
TABLES = """
CREATE TABLE ir_config_parameter (id serial PRIMARY KEY, key varchar NOT NULL UNIQUE, value text NOT NULL);
CREATE TABLE ir_model_data (id serial PRIMARY KEY, module varchar, name varchar, model varchar, res_id int);
CREATE TABLE ir_cron (id serial PRIMARY KEY, cron_name varchar, active boolean);
CREATE TABLE ir_mail_server (id serial PRIMARY KEY, name varchar NOT NULL, smtp_host varchar, smtp_port int,
    smtp_encryption varchar NOT NULL, smtp_authentication varchar NOT NULL, smtp_user varchar, smtp_pass varchar,
    active boolean);
CREATE TABLE mail_template (id serial PRIMARY KEY, mail_server_id int REFERENCES ir_mail_server);
CREATE TABLE fetchmail_server (id serial PRIMARY KEY, name varchar, password varchar, active boolean);
CREATE TABLE mail_mail (id serial PRIMARY KEY, email_to text, state varchar);
CREATE TABLE sms_sms (id serial PRIMARY KEY, number varchar, state varchar NOT NULL);
CREATE TABLE ir_act_server (id serial PRIMARY KEY, state varchar NOT NULL, webhook_url varchar);
CREATE TABLE iap_account (id serial PRIMARY KEY, account_token varchar(43));
CREATE TABLE payment_provider (id serial PRIMARY KEY, code varchar, state varchar,
    team_pay_secret_key varchar);
CREATE TABLE auth_oauth_provider (id serial PRIMARY KEY, name varchar, enabled boolean);
CREATE TABLE account_online_link (id serial PRIMARY KEY, refresh_token varchar, access_token varchar);
CREATE TABLE res_partner (id serial PRIMARY KEY, name varchar, email varchar, phone varchar, comment text);
CREATE TABLE res_users (id serial PRIMARY KEY, login varchar NOT NULL UNIQUE, password varchar, active boolean,
    partner_id int REFERENCES res_partner);
CREATE TABLE res_users_settings (id serial PRIMARY KEY, user_id int, google_calendar_token varchar);
CREATE TABLE res_users_apikeys (id serial PRIMARY KEY, user_id int, key varchar);
CREATE TABLE account_edi_proxy_client_user (id serial PRIMARY KEY, edi_mode varchar, private_key bytea NOT NULL);
CREATE TABLE team_shop (id serial PRIMARY KEY, api_key varchar NOT NULL UNIQUE, access_token varchar);
CREATE TABLE res_company (id serial PRIMARY KEY, l10n_es_test_env boolean, l10n_in_production_env boolean,
    l10n_sa_api_mode varchar);
CREATE TABLE queue_job (id serial PRIMARY KEY, state varchar);
CREATE TABLE ir_attachment (id serial PRIMARY KEY, name varchar, store_fname varchar, res_model varchar,
    res_field varchar);
"""
ROWS = f"""
INSERT INTO ir_config_parameter (key, value) VALUES ('database.uuid', 'its own'),
    ('database.secret', '{SECRET}'), ('web.base.url', 'https://erp.example.com'),
    ('mail.catchall.domain', 'example.com'), ('team.api_key', 'param-word'), ('auth_signup.reset_password', 'True');
INSERT INTO account_edi_proxy_client_user (edi_mode, private_key) VALUES ('prod', 'edi-word');
INSERT INTO team_shop (api_key, access_token) VALUES ('shop-word-1', 'of a portal'), ('shop-word-2', 'of a portal');
INSERT INTO res_company (l10n_es_test_env, l10n_in_production_env, l10n_sa_api_mode) VALUES (false, true, 'prod');
INSERT INTO ir_attachment (name, res_model, res_field) VALUES ('key', 'certificate.key', 'content');
INSERT INTO queue_job (state) VALUES ('pending'), ('done');
INSERT INTO ir_cron (cron_name, active) VALUES ('Auto-vacuum', true), ('Email Queue Manager', true), ('Old', false);
INSERT INTO ir_model_data (module, name, model, res_id) VALUES ('base', 'autovacuum_job', 'ir.cron', 1);
INSERT INTO ir_mail_server (name, smtp_host, smtp_port, smtp_encryption, smtp_authentication, smtp_user, smtp_pass,
    active) VALUES ('Real', 'smtp.example.com', 587, 'starttls', 'login', 'odoo', 'smtp-word', true);
INSERT INTO mail_template (mail_server_id) VALUES (1), (NULL);
INSERT INTO fetchmail_server (name, password, active) VALUES ('In', 'imap-word', true);
INSERT INTO mail_mail (email_to, state) VALUES ('anna@example.com', 'outgoing'), ('ben@example.com', 'sent');
INSERT INTO sms_sms (number, state) VALUES ('+4912345', 'outgoing');
INSERT INTO ir_act_server (state, webhook_url) VALUES ('webhook', 'https://hooks.example.com/1'), ('code', NULL);
INSERT INTO iap_account (account_token) VALUES ('iap-word');
INSERT INTO payment_provider (code, state, team_pay_secret_key) VALUES ('team_pay', 'enabled', 'pay-word'),
    ('demo', 'test', NULL);
INSERT INTO auth_oauth_provider (name, enabled) VALUES ('Google', true);
INSERT INTO account_online_link (refresh_token, access_token) VALUES ('bank-word', 'bank-word');
INSERT INTO res_partner (name, email, phone, comment) SELECT 'Anna ' || g, 'anna' || g || '@example.com',
    '+49 30 ' || g, 'Owes money' FROM generate_series(1, 50) g;
INSERT INTO res_users (login, password, active, partner_id) VALUES ('admin', 'hash-of-admin', true, 1);
INSERT INTO res_users_settings (user_id, google_calendar_token) VALUES (1, 'calendar-word');
INSERT INTO res_users_apikeys (user_id, key) VALUES (1, 'key-word');
"""
WORDS = (
    "param-word",
    "shop-word",
    b"edi-word".hex(),
    "pay-word",
    "smtp-word",
    "imap-word",
    "iap-word",
    "bank-word",
    "calendar-word",
    "key-word",
    SECRET,
)
"""What a copy must not hold any more."""


def uuid_of(name: str) -> str:
    """The database.uuid of one of that name."""
    return str(uuid5(NAMESPACE_DNS, name))


def make_live_odoo(postgres: str, name: str, *, owner: str, more: str = "") -> None:
    """Make it on a server, with all in it belonging to `owner`, a role that is there; `more` are further statements."""
    with psycopg.connect(postgres.format(database="postgres"), autocommit=True) as db:
        db.execute(f'CREATE DATABASE "{name}" TEMPLATE template0 OWNER "{owner}"')
    with psycopg.connect(postgres.format(database=name)) as db:
        db.execute(f'SET ROLE "{owner}"')
        db.execute((MODULES + TABLES + ROWS + more).encode())
        db.execute("UPDATE ir_config_parameter SET value = %s WHERE key = 'database.uuid'", (uuid_of(name),))


def texts(url: str) -> str:
    """All rows of a database as one text, those of materialized views as well."""
    with psycopg.connect(url) as db:
        query = "SELECT oid::regclass FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        query += " AND (relkind = 'r' OR relkind = 'm' AND relispopulated) ORDER BY oid::regclass::text"
        names = db.execute(query.encode())
        tables = [str(name) for (name,) in names.fetchall()]
        rows = [db.execute(f"SELECT t::text FROM {table} t".encode()).fetchall() for table in tables]
    return "\n".join(str(text) for found in rows for (text,) in found)
