"""The parameters whose names the room knows: a template that says nothing of one gets its type and its default."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from blocks.form_words import InWords
from flows.backup.parameters import ExistingDatabase, RetentionDays
from flows.odoo.parameters import (
    CheckoutFolder,
    ComposeFile,
    ComposeService,
    Domain,
    DropletName,
    Email,
    GitRef,
    HealthUrl,
    OdooModules,
    RepoUrl,
)

REQUIRED = inspect.Parameter.empty
S3Bucket = Annotated[
    str,
    Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9_][A-Za-z0-9_.-]*)*$"),
    InWords("the name of a bucket, or a bucket and a folder, such as backups/odoo"),
]


@dataclass(frozen=True, slots=True)
class FormParameter:
    """One parameter of the form. `default` is REQUIRED when it must be given."""

    name: str
    type: str
    annotation: Any
    default: Any
    description: str

    @property
    def has_default(self) -> bool:
        """Whether it need not be given."""
        return self.default is not REQUIRED

    @property
    def plain(self) -> bool:
        """Whether its type leaves nothing that bash could evaluate: a number, true or false."""
        return self.type in ("integer", "number", "boolean")


KNOWN = {
    one.name: one
    for one in (
        FormParameter("odoo_db", "string", ExistingDatabase, REQUIRED, "An Odoo database."),
        FormParameter("modules", "list", OdooModules, REQUIRED, "Names of Odoo modules, each once."),
        FormParameter("git_ref", "string", GitRef, "main", "Branch, tag or commit."),
        FormParameter(
            "compose_file", "string", ComposeFile, "deploy/docker-compose.prod.yml", "The compose file of the services."
        ),
        FormParameter("odoo_service", "string", ComposeService, "odoo", "Odoo's service in the compose file."),
        FormParameter("repo_dir", "string", CheckoutFolder, "/opt/odoo", "Absolute path of the checkout."),
        FormParameter("repo_url", "string", RepoUrl, REQUIRED, "Address of a repository, https."),
        FormParameter("health_url", "string", HealthUrl, REQUIRED, "Address that answers with success."),
        FormParameter("domain", "string", Domain, REQUIRED, "A domain name."),
        FormParameter("email", "string", Email, REQUIRED, "An email address."),
        FormParameter("droplet_name", "string", DropletName, REQUIRED, "Name of a droplet."),
        FormParameter("s3_bucket", "string", S3Bucket, REQUIRED, "A bucket, and a folder in it after a slash."),
        FormParameter("retention_days", "integer", RetentionDays, 30, "Days."),
    )
}
