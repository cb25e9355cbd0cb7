"""`pg_hba.conf` for a PostgreSQL server that the room's parts and its readers reach over a network.

Each login comes in from its own addresses, over TLS, and to the databases that it needs; all else is rejected for the
room's databases. Lines for other databases stay as they are.
"""

from __future__ import annotations

from ipaddress import ip_network
from typing import Annotated, Literal, assert_never

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from deployments.hosting.programs import absent
from deployments.hosting.template import Files, Template, Verdict
from deployments.hosting.values import LimitedNetworks, Split, Values, matching

Name = Annotated[str, matching(r"[a-z_][a-z0-9_]{0,62}", "a name of small letters, digits and _, as in superset")]
Proof = Literal["password", "certificate", "both"]
FILE = "ops_room.conf"
SHORT = "LOGIN@NETWORK, as in superset@203.0.113.7, with @certificate or @both after it for a client certificate"


def _some(networks: tuple[str, ...]) -> tuple[str, ...]:
    if not networks:
        raise ValueError("expected at least one address, as in 10.0.0.5")
    return networks


class LoginAccess(Values):
    """From where a login comes, and how it proves that it is that one."""

    login: Name
    addresses: Annotated[LimitedNetworks, AfterValidator(_some)]
    proof: Proof = "password"
    """A client certificate bears the login's name as its common name."""

    @property
    def narrowest_first(self) -> list[str]:
        """Its networks, none before one that lies in it."""
        return sorted(self.addresses, key=lambda one: ip_network(one).max_prefixlen - ip_network(one).prefixlen)

    @property
    def method(self) -> str:
        """The proof in PostgreSQL's words."""
        match self.proof:
            case "password":
                return "scram-sha-256"
            case "certificate":
                return "cert clientcert=verify-full"
            case "both":
                return "scram-sha-256 clientcert=verify-full"
            case _:
                assert_never(self.proof)


def _login(value: object) -> object:
    """A login from its short form, in which several networks have a + between them."""
    if not isinstance(value, str):
        return value
    login, _, rest = value.partition("@")
    networks, _, proof = rest.partition("@")
    if not login or not networks:
        raise ValueError(f"expected {SHORT}")
    return {"login": login, "addresses": networks.split("+")} | ({"proof": proof} if proof else {})


class PgHbaValues(Values):
    """What the lines of the room take."""

    logins: Annotated[
        tuple[Annotated[LoginAccess, BeforeValidator(_login)], ...], Field(min_length=1), BeforeValidator(Split)
    ] = Field(description=f"Who comes in: {SHORT}. In a file also tables with login, addresses and proof.")
    room_login: Name | None = Field(
        None, description="The login of OPS_DATABASE_URL, among them: it reaches Prefect's database as well."
    )
    database: Name = Field("ops", description="The room's database.")
    prefect_database: Name = Field("prefect", description="The database of Prefect's server.")

    @property
    def every_database(self) -> str:
        """The databases of the room, in quotes: without them `all` would be every login or database."""
        return f'"{self.database}","{self.prefect_database}"'

    def databases(self, one: LoginAccess) -> str:
        """Those that a login needs."""
        return self.every_database if one.login == self.room_login else f'"{self.database}"'

    @model_validator(mode="after")
    def _each_login_once(self) -> PgHbaValues:
        names = [one.login for one in self.logins]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"{', '.join(twice)}: give each login once, with all its addresses")
        if self.room_login is not None and self.room_login not in names:
            raise ValueError(f"room_login: {self.room_login} is not among the logins")
        return self


def ask_the_server(_files: Files) -> Verdict:
    """Only the server that the lines are for can judge them: it knows its logins and whether it has TLS."""
    return absent("pg_hba_file_rules", "the server says so itself after a reload: the file has the query")


PG_HBA = Template(
    name="pg-hba",
    about="Lines of pg_hba.conf: each login from its own addresses, over TLS, and nobody else.",
    values=PgHbaValues,
    files={FILE: "pg_hba.conf.j2"},
    checks=(ask_the_server,),
)
