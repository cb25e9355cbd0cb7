"""The block `OdooHost`: an Odoo in Docker Compose, and how its host is reached."""

from __future__ import annotations

from prefect.blocks.core import Block
from pydantic import Field, HttpUrl

from blocks.check import Check
from blocks.fields import CheckoutFolder, ComposeFile, ComposeService, HealthUrl, SshDestination, SshPort


class OdooHost(Block):
    """An Odoo that runs in Docker Compose, on the worker's own host or on one that is reached over SSH.

    Example:
        Load a stored Odoo host and look whether all is there:
        ```python
        from blocks.odoo_host import OdooHost

        host = OdooHost.load("BLOCK_NAME")
        for check in host.check():
            print(check.subject, check.found, check.advice)
        ```
    """

    _block_type_name = "Odoo Host"
    _block_type_slug = "odoo-host"
    _description = (
        "An Odoo in Docker Compose, on the worker's host or over SSH. `odoo_module_upgrade` takes its name, "
        "`ops doctor` tests it."
    )
    _documentation_url = HttpUrl("https://docs.prefect.io/v3/concepts/blocks")

    ssh_destination: SshDestination = Field(
        default="",
        title="SSH destination",
        description="Where Odoo runs, as user@host; empty when that is the worker's own host. SSH takes the keys of "
        "the user that runs the worker.",
    )
    ssh_port: SshPort = Field(default=22, title="SSH port", description="Port of the SSH server there.")
    repo_dir: CheckoutFolder = Field(
        default="/opt/odoo",
        title="Checkout",
        description="Absolute path, on Odoo's host, of the git checkout with the code and the compose file.",
    )
    compose_file: ComposeFile = Field(
        default="deploy/docker-compose.prod.yml",
        title="Compose file",
        description="The compose file, relative to the checkout or absolute.",
    )
    service: ComposeService = Field(default="odoo", title="Service", description="Odoo's service in the compose file.")
    health_url: HealthUrl = Field(
        default="http://localhost:8069/web/health",
        title="Health address",
        description="Address that answers with success when Odoo is up, as Odoo's host itself reaches it.",
    )

    def check(self) -> list[Check]:
        """Look whether the host is reached, the checkout and the service are there, and Odoo answers."""
        from blocks.odoo_host_check import check_odoo_host

        return check_odoo_host(self)
