"""The parameters of runbooks about Odoo and its hosts, by the rules of `blocks/fields.py` where a block has the same.

What each is for stands in the docstrings of the flows.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from blocks import fields
from blocks.form_words import InWords, OrEmpty, OrNothing
from flows.backup.parameters import each_once

_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_DOMAIN = rf"({_LABEL}\.)+[a-z][a-z0-9-]{{0,61}}[a-z0-9]"


def _ref(ref: str) -> str:
    if ".." in ref or "//" in ref or ref.endswith(("/", ".", ".lock")):
        raise ValueError("is not a name that git allows: expected a branch, a tag or a commit")
    return ref


APPROVAL_MINUTES = 60
"""How long an approval is waited for when nobody says."""

UPGRADE_MINUTES = 240
"""The longest that an upgrade may take."""

OdooModule = Annotated[
    str,
    Field(pattern=r"^[a-z][a-z0-9_]{0,62}$"),
    InWords("the technical name of a module, such as sale_management: small letters, digits and _, a letter first"),
]
OdooModules = Annotated[
    list[OdooModule],
    Field(min_length=1, max_length=100, json_schema_extra={"uniqueItems": True}),
    AfterValidator(each_once),
]
ApprovalMinutes = Annotated[int, Field(ge=0, le=7 * 24 * 60), OrNothing(APPROVAL_MINUTES)]
# Zero means no value: a null of an empty form field becomes one.
UpgradeMinutes = Annotated[int, Field(ge=0, le=UPGRADE_MINUTES), OrNothing(0)]
Attempt = Annotated[int, Field(ge=0, le=1_000_000), OrNothing(0)]
GitRef = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_./-]{0,199}$"),
    AfterValidator(_ref),
    InWords("a branch, a tag or a commit, such as main, 18.0 or 3f2a91c0: letters, digits, _ . / and -"),
]
DropletName = Annotated[
    str,
    Field(pattern=rf"^{_LABEL}(\.{_LABEL})*$", max_length=63),
    InWords("the name of a droplet: small letters, digits, and dashes or dots between them"),
]
Region = Annotated[str, Field(pattern=r"^[a-z]{3}[0-9]$"), InWords("a region of DigitalOcean, such as sgp1 or fra1")]
Slug = Annotated[
    str,
    Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$"),
    InWords("a name as DigitalOcean has it, such as s-4vcpu-8gb: small letters, digits and dashes"),
]
SshKey = Annotated[
    str,
    Field(pattern=r"^([0-9]{1,12}|[0-9a-f]{2}(:[0-9a-f]{2}){15})$"),
    InWords("the id or the MD5 fingerprint of a key; `doctl compute ssh-key list` shows both"),
]
SshKeys = Annotated[
    list[SshKey],
    Field(min_length=1, max_length=20, json_schema_extra={"uniqueItems": True}),
    AfterValidator(each_once),
]
Domain = Annotated[
    str, Field(pattern=rf"^{_DOMAIN}$", max_length=253), InWords("a domain in small letters, such as erp.example.com")
]
Email = Annotated[
    str,
    Field(pattern=rf"^[A-Za-z0-9][A-Za-z0-9._+-]{{0,63}}@{_DOMAIN}$", max_length=254),
    InWords("an email address, such as ops@example.com, with its domain in small letters"),
]
# Without a name and password: an address is recorded and shown.
RepoUrl = Annotated[
    str,
    Field(pattern=rf"^https://{_DOMAIN}(/[A-Za-z0-9_][A-Za-z0-9_.-]*)+$", max_length=500),
    InWords("the https address of a repository, without name and password, such as https://github.com/odoo/odoo.git"),
]
CheckoutFolder = Annotated[
    fields.CheckoutFolder, InWords("an absolute path without blanks, such as /opt/odoo: letters, digits, _ . / and -")
]
ComposeFile = Annotated[
    fields.ComposeFile, InWords("the path of a compose file, without blanks: letters, digits, _ . / and -")
]
ComposeService = Annotated[
    fields.ComposeService, InWords("the name of a service: letters, digits, _ . and -, a letter or digit first")
]
HealthUrl = Annotated[
    fields.HealthUrl, InWords("an http or https address without a query, such as http://localhost:8069/web/health")
]
RunId = Annotated[
    str,
    Field(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"),
    InWords("the whole id of a run, such as 5f0c5c1e-6c0e-4d38-9a0e-0d5e1f3a9c0b; `ops show RUN` shows it"),
]
OptionalCheckout = Annotated[CheckoutFolder, OrEmpty()]
OptionalComposeFile = Annotated[ComposeFile, OrEmpty()]
OptionalService = Annotated[ComposeService, OrEmpty()]
OptionalHealthUrl = Annotated[HealthUrl, OrEmpty()]
OptionalHost = Annotated[
    fields.BlockName,
    InWords("the name of an Odoo Host block: small letters, digits and dashes between them"),
    OrEmpty(),
]
