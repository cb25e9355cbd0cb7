"""What a copy of an Odoo could do to the world outside, or give away: how each is found, and how it is ended.

The names are those of the tables and columns of Odoo 16 to 18, and of older ones where they differ. Values are compared
as text: a module may have made a column JSON, with a value for each company.
"""

from __future__ import annotations

from flows.copies.columns import Columns
from flows.copies.credentials import CREDENTIALS, credentials_in
from flows.copies.danger import Danger

DUMMY_HOST = "invalid"
"""Of the mail server that an Odoo gets in place of all others: without one it takes that of its command line."""


def _switched_on(name: str, table: str, column: str, *, but: str = "") -> Danger:
    return Danger(name, table, (column,), f"coalesce({column}::text, 'false') <> 'false'{but}", f"{column} = false")


def _waiting(name: str, table: str, *states: str, ended: str) -> Danger:
    where = " OR ".join(f"state::text LIKE '%{state}%'" for state in states)
    return Danger(name, table, ("state",), where, f"state = '{ended}'")


def _taking_payments(table: str) -> Danger:
    where = "state::text NOT IN ('test', 'disabled')"
    return Danger("payment providers", table, ("state",), where, "state = 'disabled'")


_ALWAYS: tuple[Danger, ...] = (
    # That one stays, as Odoo leaves it: it deletes what the copy itself no longer needs.
    _switched_on(
        "scheduled jobs",
        "ir_cron",
        "active",
        but=" AND NOT EXISTS (SELECT FROM public.ir_model_data d WHERE d.res_id = ir_cron.id AND d.model = 'ir.cron'"
        " AND d.module = 'base' AND d.name = 'autovacuum_job')",
    ),
    _switched_on("mail servers", "ir_mail_server", "active", but=f" AND smtp_host IS DISTINCT FROM '{DUMMY_HOST}'"),
    Danger("mail servers of templates", "mail_template", ("mail_server_id",), "mail_server_id IS NOT NULL",
           "mail_server_id = NULL", core=False),
    _switched_on("fetchmail servers", "fetchmail_server", "active"),
    _waiting("waiting mail", "mail_mail", "outgoing", ended="cancel"),
    Danger("mail to be written later", "mail_scheduled_message", ("id",), "true", None),
    Danger("notifications to be sent later", "mail_message_schedule", ("id",), "true", None),
    _waiting("mailings", "mailing_mailing", "in_queue", "sending", ended="draft"),
    _waiting("waiting SMS", "sms_sms", "outgoing", "process", ended="canceled"),
    _waiting("waiting WhatsApp messages", "whatsapp_message", "outgoing", ended="cancel"),
    _waiting("waiting letters", "snailmail_letter", "pending", ended="canceled"),
    _waiting("jobs that wait in the queue", "queue_job", "pending", "enqueued", "started", "wait", ended="cancelled"),
    Danger("waiting push messages", "mail_push", ("id",), "true", None),
    Danger("devices for push messages", "mail_push_device", ("id",), "true", None),
    Danger("webhooks", "ir_act_server", ("webhook_url",), "webhook_url LIKE '%://%'", "webhook_url = 'neutralised'",
           core=False),
    _taking_payments("payment_provider"),
    _taking_payments("payment_acquirer"),
    _switched_on("OAuth providers", "auth_oauth_provider", "enabled"),
    Danger("IAP accounts", "iap_account", ("account_token",),
           "account_token::text <> 'neutralised+disabled'",  # Odoo's own leaves the token in front
           "account_token = 'neutralised+disabled'"),
    Danger("domains of websites", "website", ("domain",), "domain IS NOT NULL", "domain = NULL"),
    Danger("API keys of users", "res_users_apikeys", ("id",), "true", None),
    Danger("trusted devices of users", "auth_totp_device", ("id",), "true", None),
)  # fmt: skip


def dangers_in(there: Columns) -> list[Danger]:
    """All that may be in a database with these columns."""
    return [*_ALWAYS, *credentials_in(there)]


KINDS = {one.name for one in _ALWAYS} | CREDENTIALS
"""The names of all dangers that are known."""
