"""The parameters of runbooks about Odoo and its hosts, beside those in `blocks/fields.py`.

Their descriptions stand in the docstrings of the flows.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from flows.backup.parameters import each_once

_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_DOMAIN = rf"({_LABEL}\.)+[a-z][a-z0-9-]{{0,61}}[a-z0-9]"


def _ref(ref: str) -> str:
    if ".." in ref or "//" in ref or ref.endswith(("/", ".", ".lock")):
        raise ValueError("is no name that git allows: want a branch, a tag or a commit")
    return ref


OdooModules = Annotated[
    list[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]],
    Field(min_length=1, max_length=100, json_schema_extra={"uniqueItems": True}),
    AfterValidator(each_once),
]
ApprovalMinutes = Annotated[int, Field(ge=0, le=7 * 24 * 60)]
GitRef = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_./-]{0,199}$"), AfterValidator(_ref)]
DropletName = Annotated[str, Field(pattern=rf"^{_LABEL}(\.{_LABEL})*$", max_length=63)]
Region = Annotated[str, Field(pattern=r"^[a-z]{3}[0-9]$")]
Slug = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
# What `doctl compute ssh-key list` shows: an id, or an MD5 fingerprint.
SshKeys = Annotated[
    list[Annotated[str, Field(pattern=r"^([0-9]{1,12}|[0-9a-f]{2}(:[0-9a-f]{2}){15})$")]],
    Field(min_length=1, max_length=20, json_schema_extra={"uniqueItems": True}),
    AfterValidator(each_once),
]
Domain = Annotated[str, Field(pattern=rf"^{_DOMAIN}$", max_length=253)]
Email = Annotated[str, Field(pattern=rf"^[A-Za-z0-9][A-Za-z0-9._+-]{{0,63}}@{_DOMAIN}$", max_length=254)]
# Without a name and password: an address is recorded and shown.
RepoUrl = Annotated[str, Field(pattern=rf"^https://{_DOMAIN}(/[A-Za-z0-9_][A-Za-z0-9_.-]*)+$", max_length=500)]
