"""The parameters of a new host. Their descriptions stand in the docstring of the flow."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from blocks.fields import each_once

_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_DOMAIN = rf"({_LABEL}\.)+[a-z][a-z0-9-]{{0,61}}[a-z0-9]"


DropletName = Annotated[str, Field(pattern=rf"^{_LABEL}(\.{_LABEL})*$", max_length=63)]
Region = Annotated[str, Field(pattern=r"^[a-z]{3}[0-9]$")]
Slug = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
# What `doctl compute ssh-key list` shows: an id, or an MD5 fingerprint.
SshKeys = Annotated[
    list[Annotated[str, Field(pattern=r"^([0-9]{1,12}|[0-9a-f]{2}(:[0-9a-f]{2}){15})$")]],
    Field(min_length=1, max_length=20, json_schema_extra={"uniqueItems": True}),
    each_once("a key"),
]
Domain = Annotated[str, Field(pattern=rf"^{_DOMAIN}$", max_length=253)]
Email = Annotated[str, Field(pattern=rf"^[A-Za-z0-9][A-Za-z0-9._+-]{{0,63}}@{_DOMAIN}$", max_length=254)]
# Without a name and password: an address is recorded and shown.
RepoUrl = Annotated[str, Field(pattern=rf"^https://{_DOMAIN}(/[A-Za-z0-9_][A-Za-z0-9_.-]*)+$", max_length=500)]
