"""The block `OpsDatabase`: a login at the ops database, for what stands beside the room."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import quote

from prefect.blocks.core import Block
from pydantic import AfterValidator, Field, HttpUrl, SecretStr
from sqlalchemy import Engine

from blocks.check import Check
from blocks.database_check import check_database
from blocks.fields import not_upwards
from opsdb.database import connect
from opsdb.settings import Settings

Host = Annotated[
    str,
    Field(pattern=r"^(/[A-Za-z0-9_./-]+|[A-Za-z0-9][A-Za-z0-9.:-]{0,252})$", max_length=300),
    AfterValidator(not_upwards),
]
# What PostgreSQL allows in a name and needs no escape in a shell or a URL.
Name = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.@-]*$", max_length=63)]
SslMode = Literal["disable", "prefer", "require", "verify-ca", "verify-full"]


class OpsDatabase(Block):
    """A login at the ops database, for runbooks and programs that read the room's record.

    Example:
        Load a stored login and read from one of the room's views:
        ```python
        from blocks.ops_database import OpsDatabase
        from sqlalchemy import text

        engine = OpsDatabase.load("BLOCK_NAME").engine()
        with engine.connect() as db:
            rows = db.execute(text("SELECT * FROM ops.stuck_runs")).all()
        ```
    """

    _block_type_name = "Ops Database"
    _block_type_slug = "ops-database"
    _description = (
        "A login at the ops database: for Superset, a worker on another host, or a runbook of your own. `ops doctor` "
        "tests what it may do."
    )
    _documentation_url = HttpUrl("https://docs.prefect.io/v3/concepts/blocks")

    host: Host = Field(
        title="Host", description="Host name or address of the server, or the absolute folder of its socket."
    )
    port: int = Field(default=5432, ge=1, le=65535, title="Port", description="Port of the server.")
    database: Name = Field(title="Database", description="The database that holds the schema ops.")
    user: Name = Field(title="User", description="The login, for a reader a member of ops_monitor.")
    # not `| None`: for that Prefect's form has an open text field
    password: SecretStr = Field(
        default=SecretStr(""), title="Password", description="Empty where the server lets this user in without one."
    )
    sslmode: SslMode = Field(
        default="prefer",
        title="TLS",
        description="As libpq's sslmode: over a network give verify-full, or at least require.",
    )
    may_write: bool = Field(
        default=False,
        title="May write",
        description="Whether this login is for a worker, which writes. ops doctor minds a reader that may write.",
    )

    def url(self) -> SecretStr:
        """The connection as libpq and OPS_DATABASE_URL spell it, with the password in it: hand it on, never show it."""
        user, password = quote(self.user, safe=""), self.password.get_secret_value()
        login = f"{user}:{quote(password, safe='')}" if password else user
        path = f"/{quote(self.database, safe='')}"
        if self.host.startswith("/"):
            return SecretStr(f"postgresql://{login}@{path}?host={self.host}&port={self.port}")
        host = f"[{self.host}]" if ":" in self.host else self.host
        return SecretStr(f"postgresql://{login}@{host}:{self.port}{path}?sslmode={self.sslmode}")

    def engine(self) -> Engine:
        """Connections of this login, in UTC and with the search path `ops`. Nothing connects before its first use."""
        role = "ops_writer" if self.may_write else None
        return connect(Settings(database_url=self.url()), role=role, application="block")

    def check(self) -> list[Check]:
        """Look whether the login gets in, what it finds, and whether it may do what it is for."""
        return check_database(self.url().get_secret_value(), writes=self.may_write)
