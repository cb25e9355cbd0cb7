"""What an operator can set: in the environment, or in a settings file. Built once at each entry point and passed on."""

from __future__ import annotations

import sys
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field, SecretStr

from opsdb.errors import UsageError
from opsdb.retention_settings import RetentionSettings
from opsdb.setting_checks import check_home, check_postgresql_url
from opsdb.setting_sources import Loaded, load, variable
from opsdb.setting_types import (
    AbsolutePath,
    AbsolutePaths,
    HostNames,
    IpAddress,
    LoopbackPort,
    Mention,
    Port,
    PrivateAddress,
    Repositories,
    RunbookPlace,
    SecretWebAddress,
    ServerAddress,
    Thresholds,
)
from opsdb.settings_file import SettingsFile
from opsdb.shown import shown
from opsdb.timings import Timings
from opsdb.web.hosts import LOOPBACK, bare_host_name, host_name

RENAMED = {"prefect_ui_url": "server_url"}
"""Settings by the name that they had before, which is still taken."""


class Settings(RetentionSettings):
    """The room's settings. Durations are seconds, sizes are bytes."""

    model_config = ConfigDict(validate_default=True, extra="forbid")

    home: AbsolutePath = Field(Path(".ops"), description="Folder that holds all state of the room.")
    database_url: SecretStr | None = Field(
        None,
        description="PostgreSQL server to use instead of the embedded one: postgresql://user@host/database. "
        "The schema `ops` is made in that database.",
    )
    database_listen: LoopbackPort | None = Field(
        None,
        description="Port of loopback, as in 127.0.0.1:5433, on which the embedded PostgreSQL also answers to the "
        "logins that `ops db login` makes and that only read: for Superset. Default: none, it has a socket only.",
    )
    prefect_database: str = Field(
        "prefect",
        pattern=r"^[a-z_][a-z0-9_]{0,62}$",
        description="Database of the Prefect server, on the same PostgreSQL server; made if it is missing.",
    )
    prefect_port: Port = Field(4200, description="Loopback port of the Prefect server and its UI.")
    health_port: Port = Field(3000, description="Port of the worker's `/health`.")
    health_address: PrivateAddress = Field(
        "127.0.0.1", description="IP address of `/health`, without TLS: of loopback or a private network, for probes."
    )
    exporter_port: Port = Field(9464, description="Port of the metrics for Prometheus, `/metrics`.")
    exporter_address: IpAddress = Field(
        "127.0.0.1",
        description="IP address of the metrics. An address that others reach is refused without TLS or a password.",
    )
    exporter_basic_auth: SecretStr | None = Field(
        None,
        description="User and hashed password that the metrics ask for; `ops exporter --hash-password NAME` makes it.",
    )
    exporter_tls_cert: AbsolutePath | None = Field(
        None, description="Certificate chain, PEM, with which the metrics speak TLS; read at the start."
    )
    exporter_tls_key: AbsolutePath | None = Field(None, description="Private key of that certificate, PEM.")
    lane_limit: int = Field(3, ge=1, le=100, description="Runs that one lane executes at once.")
    heartbeat_seconds: float = Field(5.0, gt=0, le=10, description="Time between two heartbeats of a run.")
    lost_seconds: float = Field(
        30.0,
        ge=10,
        le=600,
        description="A running run without heartbeat for that long is lost: it is fenced and failed.",
    )
    claim_seconds: float = Field(
        60.0, ge=10, le=3600, description="A claimed run that has not started for that long is failed."
    )
    sweep_seconds: float = Field(1.0, gt=0, le=5, description="Time between two sweeps for lost runs.")
    poll_seconds: float = Field(
        3.0, gt=0, le=60, description="Time between two polls by which `ops sync` closes gaps in the events."
    )
    drain_seconds: float = Field(
        30.0, ge=0, description="Time that a worker gives its runs when it ends, before it stops them."
    )
    time_scale: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Factor on the time limits by which the room judges runs and hosts, those above and others; below "
        "1 it is for tests.",
    )
    log_max_bytes: int = Field(
        256 * 1024 * 1024,
        ge=4096,
        description="Size at which the log file of one step is cut, and marked so.",
    )
    backup_dir: AbsolutePath | None = Field(
        None, description="Folder for database dumps. Default: `backups` below OPS_HOME."
    )
    filestore_dir: AbsolutePath | None = Field(
        None,
        description="Odoo's `filestore` folder, with one folder for each database. When set, backups hold that too.",
    )
    backup_objective: int = Field(28, ge=0, le=30, description="Of 30 nights, how many should have a fresh backup.")
    backup_roots: AbsolutePaths = Field(
        (),
        description="Folders, with colons between, in which runs may read and write backups, beside the room's own.",
    )
    filestore_roots: AbsolutePaths = Field(
        (), description="Further folders, with colons between, in which runs may read and unpack filestores."
    )
    odoo_database_url: SecretStr | None = Field(
        None, description="PostgreSQL server that holds the Odoo databases. Default: the room's own server."
    )
    drill_on_server: bool = Field(
        False,
        description="Restore drills in a database of the Odoo databases' server, and not in a PostgreSQL of their own: "
        "for extensions or an order of texts that are only there.",
    )
    pg_bin: Path | None = Field(
        None,
        description="Folder of pg_dump, pg_restore and pg_dumpall. Default: those of the server's major version or the "
        "next newer one, with TLS if the server is reached so: embedded, in /usr/lib/postgresql or ~/.pg0, or on PATH.",
    )
    prefect_yaml: AbsolutePath = Field(
        Path(__file__).parent.parent / "prefect.yaml",
        description="The file of deployments: what `ops deploy` applies. A worker executes these, templates and the "
        "team's own runbooks, and nothing else.",
    )
    templates: AbsolutePath | None = Field(
        None, description="Folder with further templates, runbooks as JSON or YAML files, beside `flows/templates/`."
    )
    runbooks: RunbookPlace | None = Field(
        None, description="The team's own runbooks in Python: a folder, with a slash, or an installed package's name."
    )
    stored_commands: bool = Field(
        False,
        description="Allow the runbook `stored_command`. Whoever may edit Prefect blocks then runs commands here.",
    )
    allowed_repositories: Repositories = Field(
        "",
        description="Repositories that `odoo_fresh_deploy` may run code of, between blanks: a URL, or one with a slash "
        "at its end for all below it. Others are refused. While it is empty, every deployment waits for an approval.",
    )
    deploy_approval: bool = Field(
        True,
        description="Let `odoo_fresh_deploy` wait for an approval, before anything of its repository reaches the "
        "droplet.",
    )
    upgrade_approval: bool = Field(
        False, description="Let `odoo_module_upgrade` wait for an approval before modules are upgraded."
    )
    alert_urls: SecretStr | None = Field(
        None,
        description="Where alerts go: Apprise addresses between blanks. `critical=`, `warning=` or names of runbooks, "
        "with commas between, before an address limit it to those.",
    )
    alert_ca_file: AbsolutePath | None = Field(
        None,
        description="PEM file of further authorities whose certificates are trusted at every place that alerts go to, "
        "and at OPS_DEADMAN_URL.",
    )
    alert_mention: Mention = Field("", description="Whom critical alerts call in Mattermost, as in `@ops-on-call`.")
    alert_thresholds: Thresholds = Field(
        "",
        description="Seconds that something lasts before it is alerted of, between blanks: `queued=900 "
        "queued:odoo_db_backup=7200 failed:odoo_module_upgrade=0 leftovers=off`.",
    )
    deadman_url: SecretWebAddress | None = Field(
        None,
        description="Address that the alerter asks for once a minute while alerts work, for a service that warns when "
        "that stops.",
    )
    server_url: ServerAddress | None = Field(
        None,
        description="Where operators reach the room, with a path if it has one, as in `https://ops.example.org/room`. "
        "Links begin with it, and its host is one that the room's ports answer to. Default: the loopback address.",
    )
    allowed_hosts: HostNames = Field(
        "",
        description="Further host names by which clients reach the room's ports, between blanks. Those of loopback and "
        "of OPS_SERVER_URL are known anyway; a request to any other is refused.",
    )

    @property
    def known_hosts(self) -> frozenset[str]:
        """The host names to which the room's ports answer, in the spelling of `host_name`."""
        names = {host_name(urlsplit(self.server_address).netloc), *map(bare_host_name, self.allowed_hosts.split())}
        return LOOPBACK | {name for name in names if name is not None}

    @property
    def timings(self) -> Timings:
        """The time limits by which the room's processes judge each other, as they apply here."""
        return Timings(
            heartbeat=self.heartbeat_seconds,
            lost=self.lost_seconds,
            claim=self.claim_seconds,
            sweep=self.sweep_seconds,
            poll=self.poll_seconds,
            drain=self.drain_seconds,
        ).scaled(self.time_scale)

    @property
    def server_address(self) -> str:
        """Where operators reach the Prefect UI, without a slash at the end."""
        return self.server_url or f"http://127.0.0.1:{self.prefect_port}"

    @property
    def server_path(self) -> str:
        """The path below which operators reach the room, as `/room`; empty where there is none."""
        return urlsplit(self.server_address).path

    @property
    def backups(self) -> Path:
        """The folder for database dumps."""
        return self.backup_dir or self.home / "backups"

    @property
    def backup_folders(self) -> tuple[Path, ...]:
        """Where runs may read and write backups."""
        return (self.backups, *self.backup_roots)

    @property
    def filestore_folders(self) -> tuple[Path, ...]:
        """Where runs may read filestores and unpack them."""
        return (*([self.filestore_dir] if self.filestore_dir else []), *self.filestore_roots)

    @property
    def logs(self) -> Path:
        """The folder with one folder of step logs per run."""
        return self.home / "logs"

    @property
    def sandboxes(self) -> Path:
        """The folder with the servers of restore drills, while they last."""
        return self.home / "sandboxes"

    @property
    def embedded(self) -> bool:
        """Whether the room brings its own PostgreSQL."""
        return self.database_url is None

    @property
    def database_address(self) -> tuple[str, int] | None:
        """The IP address and port on which the embedded PostgreSQL answers, or None where it has a socket only."""
        if self.database_listen is None:
            return None
        host, _, port = self.database_listen.rpartition(":")
        return host.strip("[]"), int(port)

    @property
    def socket_dir(self) -> Path:
        """The folder with the embedded PostgreSQL's socket."""
        return self.home / "postgres" / "socket"

    @property
    def ops_url(self) -> str:
        """Where the schema `ops` lives, as libpq spells it (a password may stand in it: never log it)."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"postgresql://postgres@/ops?host={self.socket_dir}"

    @property
    def odoo_url(self) -> str:
        """The server that holds the Odoo databases, as libpq spells it (may hold a password)."""
        return self.odoo_database_url.get_secret_value() if self.odoo_database_url else self.ops_url


def load_settings() -> Settings:
    """Read the settings from the environment and the settings files.

    Raises UsageError that names each one that is wrong, without its value where it may be a secret, and for an OPS_HOME
    that another user could change. What is spelled in an old way is said on stderr.
    """
    loaded = load_with_sources()
    for line in loaded.warnings():
        print(f"ops: warning: {shown(line)}", file=sys.stderr)
    return loaded.settings


def load_with_sources(*, own: SettingsFile | None = None) -> Loaded[Settings]:
    """The settings, with where each comes from; `own` as for `load`. Raises as `load_settings`."""
    loaded = load(Settings, renamed=RENAMED, own=own)
    check_home(loaded.settings.home)
    if loaded.settings.database_listen is not None and not loaded.settings.embedded:
        raise UsageError(
            "OPS_DATABASE_LISTEN is for the embedded PostgreSQL, and OPS_DATABASE_URL names another server: unset one"
        )
    for name in ("database_url", "odoo_database_url"):
        secret = getattr(loaded.settings, name)
        if secret is not None:
            check_postgresql_url(variable(name), secret.get_secret_value())
    return loaded
