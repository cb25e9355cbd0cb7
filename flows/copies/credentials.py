"""Where an Odoo keeps what opens other systems, and which of theirs it uses: found by what names of columns say.

A list of names would miss what a module adds that nobody here knows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from psycopg import sql

from flows.copies.columns import Column, Columns
from flows.copies.danger import Danger

_ELSEWHERE = "keys in other tables"
_PARAMETERS = "keys to other services"
# In these tables nearly each such name is one; in all others, a portal's `access_token` or a view's `key` is not.
_IN_KNOWN = re.compile(
    r"secret|pass|pwd|token|key|pkcs12|credential|authorization_code|hmac|sha_(request|response)|authorize_login"
    r"|merchant_account"
)
_IN_ANY = re.compile(
    r"secret|passw|(^|_)pwd|credential|pkcs12|hmac|_pass$|(refresh|account|auth|bot|oauth_access|bearer)_token"
    r"|(^|_)(api|shared|private|access|server|license|signing|encryption|consumer|app)_?key"
)
_KNOWN = {
    "ir_mail_server": "passwords of mail servers",
    "fetchmail_server": "passwords of fetchmail servers",
    "payment_provider": "keys of payment providers",
    "payment_acquirer": "keys of payment providers",
    "pos_payment_method": "keys of payment terminals",
    "delivery_carrier": "keys of delivery carriers",
    "account_online_link": "bank tokens",
    "account_edi_proxy_client_user": "keys of the exchange of invoices",
    "certificate_certificate": "keys of certificates",
    "certificate_key": "keys of certificates",
    "google_calendar_credentials": "tokens of users",
    "calendar_provider_config": "keys of calendars",
    "res_users_settings": "tokens of users",
    "res_users": "tokens of users",
    "res_company": "keys of companies",
    "res_company_ldap": "passwords of directories",
    "mail_ice_server": "keys of calls",
    "amazon_account": "keys of shops",
    "whatsapp_account": "keys of WhatsApp accounts",
    "social_account": "keys of social media",
}
_KEPT = {("res_users", "password"), ("res_users", "totp_secret"), ("res_users_settings", "push_to_talk_key")}
# Its value is not a key where it is a number or a yes: auth_signup.reset_password is a switch.
_PARAMETER = (
    "(key ~* 'secret|pass|pwd|token|key|credential|account_info|cloud_storage|enterprise_code|jitsi|sfu|hmac'"
    " OR key = 'report.url') AND key <> 'database.secret' AND value !~* '^(true|false|none|[0-9]*)$'"
)
_EMPTY = {"bytea": "'\\x'", "json": "'null'", "texts": "'{}'"}
_MODES = "interfaces in production"
_TEST = re.compile(r"_test_(env|environment|mode)$")
_PRODUCTION = re.compile(r"(^|_)prod(uction)?_(env|environment|mode)$")
_MODE = re.compile(r"(^|_)(api|server|edi)_mode$|_environment$")
_FILES = "files with keys"
# Most models have files where others have columns of bytes: the same names say what they hold. Those of certificates
# hold nothing else, whatever their fields are called: certificate.key, l10n_es_edi.certificate.
_MODELS_OF_KEYS = r"^certificate\.|^l10n_.*certificate|\.thumb\.drive$"
_FIELDS_OF_KEYS = rf"{_IN_ANY.pattern}|(^|_)key(_file)?$|(^|_)(pfx|p12|pem)(_|$)"
_IN_FILES = (
    f"res_field IS NOT NULL AND (res_model ~ '{_MODELS_OF_KEYS}' OR res_field ~ '{_FIELDS_OF_KEYS}'"
    f" OR res_field ~ '{_IN_KNOWN.pattern}'"
    f" AND replace(res_model, '.', '_') IN ({', '.join(repr(one) for one in sorted(_KNOWN))}))"
)
CREDENTIALS = {_MODES, _FILES, *_KNOWN.values(), _ELSEWHERE, _PARAMETERS}
"""The names of all kinds."""


def credentials_in(there: Columns) -> Iterator[Danger]:
    """All columns and parameters that may hold a credential."""
    yield Danger(_PARAMETERS, "ir_config_parameter", ("key", "value"), _PARAMETER, None)
    yield Danger(_FILES, "ir_attachment", ("res_field", "res_model"), _IN_FILES, None, core=False)
    for table, columns in there.items():
        name = _KNOWN.get(table)
        if columns is None:
            if name:  # nobody can look into it
                yield Danger(name, table, (), "true", None)
            continue
        pattern = _IN_KNOWN if name else _IN_ANY
        for column, facts in columns.items():
            yield from _mode(table, column, facts)
            if facts.kind not in ("", "bool") and pattern.search(column) and (table, column) not in _KEPT:
                yield _credential(name or _ELSEWHERE, table, column, facts)


def _credential(name: str, table: str, column: str, facts: Column) -> Danger:
    quoted = sql.Identifier(column).as_string(None)
    empty = _EMPTY.get(facts.kind, "'neutralised ' || md5(random()::text)")
    where = f"nullif({quoted}::text, '') NOT IN ('\\x', 'null', '{{}}') AND {quoted}::text NOT LIKE 'neutralised%'"
    return Danger(name, table, (column,), where, f"{quoted} = {empty if facts.required else 'NULL'}")


def _mode(table: str, column: str, facts: Column) -> Iterator[Danger]:
    """A switch between the test system of somebody else and the real one: it must not stand at the real one."""
    quoted = sql.Identifier(column).as_string(None)
    if facts.kind == "bool" and _TEST.search(column):
        yield Danger(_MODES, table, (column,), f"{quoted} IS DISTINCT FROM true", f"{quoted} = true")
    elif facts.kind == "bool" and _PRODUCTION.search(column):
        yield Danger(_MODES, table, (column,), f"{quoted}", f"{quoted} = false")
    elif facts.kind == "text" and _MODE.search(column):
        off = "'test'" if facts.required else "NULL"
        yield Danger(_MODES, table, (column,), f"{quoted} ~* '^(prod|production|live)$'", f"{quoted} = {off}")
