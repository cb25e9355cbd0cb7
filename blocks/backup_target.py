"""The block that says where copies of backups go: a folder, or a bucket of an S3-compatible store."""

from __future__ import annotations

import hashlib
import re
import tempfile
from datetime import UTC, datetime, timedelta
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

from prefect.blocks.core import Block
from pydantic import ConfigDict, Field, HttpUrl, SecretStr, model_validator

from blocks.check import Check
from blocks.target_store import Store, TargetError

SHORTEST_KEY = 6
"""Characters: a shorter one cannot be masked in output."""

# All of them may be empty. A field that may be None has no form of its own in Prefect's UI, and shows a secret.
_FOLDER_PATTERN = r"^((/\.?[A-Za-z0-9_@+=,~-][A-Za-z0-9_@+=,~.-]*)+/?)?$"
_BUCKET_PATTERN = r"^([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])?$"
_PREFIX_PATTERN = r"^([A-Za-z0-9_=-][A-Za-z0-9_.=-]*(/[A-Za-z0-9_=-][A-Za-z0-9_.=-]*)*/?)?$"
_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST = rf"({_LABEL}(\.{_LABEL})*|\[[0-9a-f:]+\])(:[0-9]{{1,5}})?"
_PATH = r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*/?"  # of names that no proxy on the way spells otherwise
_ENDPOINT = re.compile(rf"https?://{_HOST}{_PATH}")
_CHECK_FILE = "ops-check-"
_OLD = timedelta(hours=1)


class BackupTarget(Block):
    """Where copies of backups go: a folder on another disk, or a bucket of an S3-compatible store.

    Runbooks get its name as their parameter `target`, and never what is in it.

    Example:
        ```python
        from blocks.backup_target import BackupTarget

        target = BackupTarget.load("BLOCK_NAME")
        for check in target.check():
            print(check.subject, check.found, check.advice)
        ```
    """

    _block_type_name = "Backup Target"
    _block_type_slug = "backup-target"
    _documentation_url = HttpUrl("https://docs.prefect.io/v3/concepts/blocks")
    _description = "Where copies of backups go: a folder on another disk, or a bucket of an S3-compatible store."

    model_config = ConfigDict(hide_input_in_errors=True)  # it may be a key

    folder: str = Field(
        default="",
        pattern=_FOLDER_PATTERN,
        max_length=1024,
        title="Folder",
        description="Absolute path of a folder that is there, on another disk. Leave it empty for a bucket.",
    )
    bucket: str = Field(
        default="", pattern=_BUCKET_PATTERN, title="Bucket", description="Name of a bucket. Empty for a folder."
    )
    endpoint_url: str = Field(
        default="",
        title="Endpoint",
        description=(
            "Address of the store, without the bucket, as https://sgp1.digitaloceanspaces.com or "
            "https://PROJECT.supabase.co/storage/v1/s3. Empty for AWS."
        ),
    )
    region: str = Field(
        default="us-east-1",
        pattern=r"^[A-Za-z0-9-]{1,40}$",
        title="Region",
        description="Region of the bucket. Stores outside AWS mostly take any.",
    )
    prefix: str = Field(
        default="",
        pattern=_PREFIX_PATTERN,
        max_length=512,
        title="Prefix",
        description="Folder within the bucket, for this room alone: odoo-backups. Empty: the bucket itself.",
    )
    access_key_id: SecretStr = Field(
        default=SecretStr(""), title="Access key id", description="The key's id, as the store names it."
    )
    secret_access_key: SecretStr = Field(
        default=SecretStr(""), title="Secret access key", description="The key's secret."
    )
    allow_http: bool = Field(
        default=False,
        title="Allow http",
        description="Send backups without TLS: whoever is on the way can read all that the databases hold.",
    )

    @model_validator(mode="after")
    def _is_one_place(self) -> BackupTarget:
        """Raises ValueError that names the fields, and never a key."""
        if bool(self.folder) == bool(self.bucket):
            raise ValueError("fill in either folder or bucket")
        keys = {name: getattr(self, name).get_secret_value() for name in ("access_key_id", "secret_access_key")}
        if self.folder:
            given = [name for name in ("endpoint_url", "prefix") if getattr(self, name)]
            given += [name for name, value in keys.items() if value]
            if given:
                raise ValueError(f"a folder takes no {', '.join(given)}: leave them empty, or fill in bucket instead")
            return self
        for name, value in keys.items():
            if not value:
                raise ValueError(f"a bucket needs {name}")
            if value != value.strip() or not value.isprintable():
                raise ValueError(f"{name} begins or ends with blanks, or holds control characters: paste it again")
            if len(value) < SHORTEST_KEY:
                raise ValueError(f"{name} has fewer than {SHORTEST_KEY} characters: too short to be masked in output")
        if self.endpoint_url:
            self._check_endpoint(self.endpoint_url)
        return self

    def _check_endpoint(self, url: str) -> None:
        if not _ENDPOINT.fullmatch(url):
            raise ValueError(
                "endpoint_url: expected https://host, https://host:port or https://host/path, "
                "without a login, a query, a # and %, and no part of the path empty or with a dot first"
            )
        parts = urlsplit(url)
        try:
            _ = parts.port
        except ValueError:
            raise ValueError("endpoint_url: there is no port above 65535") from None
        host = parts.hostname or ""
        path = parts.path.rstrip("/")
        if host.startswith(f"{self.bucket}.") or path.endswith(f"/{self.bucket}"):
            shorter = f"{host.removeprefix(f'{self.bucket}.')}{path.removesuffix(f'/{self.bucket}')}"
            raise ValueError(f"endpoint_url holds the bucket: expected https://{shorter}")
        if parts.scheme == "http" and not self.allow_http and not _is_loopback(host):
            raise ValueError(
                "endpoint_url: expected https:// - with http whoever is on the way can read the backups; "
                "allow_http permits it"
            )

    def store(self, *, patient: bool = True, in_parts: bool = False) -> Store:
        """The place itself, which is asked again and waited for if `patient`; see BucketStore."""
        if self.folder:
            from blocks.target_folder import FolderStore

            return FolderStore(Path(self.folder))
        from blocks.target_bucket import BucketStore

        return BucketStore(
            bucket=self.bucket,
            region=self.region,
            endpoint_url=self.endpoint_url.rstrip("/") if self.endpoint_url else None,
            prefix=self.prefix.rstrip("/"),
            access_key_id=self.access_key_id.get_secret_value(),
            secret_access_key=self.secret_access_key.get_secret_value(),
            patient=patient,
            in_parts=in_parts,
        )

    def check(self) -> list[Check]:
        """See whether copies could go there, with small files of its own that are removed again."""
        store = self.store(patient=False)  # `ops doctor` waits for seconds
        stores = {"write, read and delete": store}
        if self.bucket:
            stores["write in parts, as large files are"] = self.store(patient=False, in_parts=True)
        steps = {"look": partial(_look, store)} | {name: partial(_try_out, one) for name, one in stores.items()}
        checks: list[Check] = []
        for step, work in steps.items():
            try:
                checks.append(Check(f"{store.place}: {step}", work()))
            except TargetError as error:
                checks.append(Check(f"{store.place}: {step}", error.found, advice=error.advice))
                break
        refusals = dict.fromkeys(refused for one in stores.values() for refused in one.refusals)
        return checks + [Check(f"{store.place}: done without", refused) for refused in refusals]


def _look(store: Store) -> str:
    store.look()
    return "works"


def _try_out(store: Store) -> str:
    """Returns that it works, and what will prove a copy there."""
    now = datetime.now(UTC)
    _remove_left(store, before=_check_file(now - _OLD))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{_check_file(now)}-{uuid4().hex}"
        file.write_bytes(uuid4().bytes)
        sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
        try:
            store.put(file, sha256=sha256)
            if store.sha256(file.name) != sha256:
                raise TargetError("what was read is not what was written", advice="do not trust this store")
        finally:
            store.delete(file.name)
    if file.name in store.sizes(file.name):
        raise TargetError(f"{file.name} could not be deleted", advice="let these keys delete objects")
    return f"works; what proves a copy: {', '.join(store.proofs)}"


def _check_file(at: datetime) -> str:
    """How the name of a test's file begins, in the order of their times."""
    return f"{_CHECK_FILE}{at:%Y%m%dT%H%M%SZ}"


def _remove_left(store: Store, *, before: str) -> None:
    """Remove what killed tests left; one that runs now beside this one keeps its file."""

    def left(name: str) -> bool:
        return name.startswith(_CHECK_FILE) and name < before

    for name in filter(left, store.sizes(_CHECK_FILE)):
        store.delete(name)
    store.drop_unfinished(left)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
