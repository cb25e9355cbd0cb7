"""A bucket as a backup target of the tests, with the block that leads to it."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from blocks.backup_target import BackupTarget
from flows.offsite.owner import FILE
from tests.support.backups import make_backup
from tests.support.bucket_server import BucketServer

MEBIBYTE = 1024 * 1024


class Bucket:
    """A bucket and the block that leads to it."""

    def __init__(self, server: BucketServer, bucket: str, port: int) -> None:
        self.server = server
        self.bucket = bucket
        self.block = f"target-{uuid4().hex}"
        self.fill_in(endpoint_url=f"http://127.0.0.1:{port}")

    def fill_in(self, **fields: Any) -> None:
        filled: dict[str, Any] = {
            "bucket": self.bucket,
            "prefix": "odoo",
            "endpoint_url": self.server.url,
            "access_key_id": self.server.access_key_id,
            "secret_access_key": self.server.secret_access_key,
        }
        BackupTarget(**filled | fields).save(self.block, overwrite=True)

    def put(self, key: str, content: bytes = b"theirs") -> None:
        self.server.client().put_object(Bucket=self.bucket, Key=key, Body=content)

    def delete(self, key: str) -> None:
        self.server.client().delete_object(Bucket=self.bucket, Key=key)

    def put_copy(self, folder: Path, database: str, created_at: datetime) -> str:
        """A copy that is good, made outside of the folder of backups. Returns the dump's name."""
        folder.mkdir(exist_ok=True)
        dump = make_backup(folder, database, created_at)
        for file in (dump, Path(f"{dump}.json")):
            self.put(f"odoo/{file.name}", file.read_bytes())
        return dump.name

    @property
    def keys(self) -> set[str]:
        """All but the claim of the room."""
        found = self.server.client().list_objects_v2(Bucket=self.bucket).get("Contents", [])
        return {one["Key"] for one in found} - {f"odoo/{FILE}"}

    @property
    def unfinished(self) -> list[str]:
        found = self.server.client().list_multipart_uploads(Bucket=self.bucket)
        return [one["Key"] for one in found.get("Uploads", [])]

    def read(self, key: str) -> bytes:
        return self.server.client().get_object(Bucket=self.bucket, Key=key)["Body"].read()


def copied(folder: Path, dump: str) -> set[str]:
    return {f"odoo/{path.name}" for path in folder.glob(f"{dump}*")}
