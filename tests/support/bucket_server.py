"""An S3-compatible server on loopback, moto's, that checks keys and signatures as a real one does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError

from blocks.target_bucket import BucketStore
from tests.support.children import child

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

SETTING_UP = 3
"""Requests that moto answers without looking at keys: those that make a user, its key and its rights."""
ALL = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}


@dataclass(frozen=True)
class BucketServer:
    """Where it is, and a key that may do everything there."""

    port: int
    access_key_id: str
    secret_access_key: str = field(repr=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self) -> S3Client:
        """For the test itself."""
        config = Config(s3={"addressing_style": "path"}, request_checksum_calculation="when_required")
        client: S3Client = _client(
            "s3", self.url, config, aws_access_key_id=self.access_key_id, aws_secret_access_key=self.secret_access_key
        )
        return client

    def store(self, bucket: str, prefix: str = "odoo", **other: Any) -> BucketStore:
        """What the room would ask."""
        fields: dict[str, Any] = {
            "bucket": bucket,
            "region": "us-east-1",
            "endpoint_url": self.url,
            "prefix": prefix,
            "access_key_id": self.access_key_id,
            "secret_access_key": self.secret_access_key,
        }
        return BucketStore(**fields | other)


@contextmanager
def bucket_server(port: int, log: Path) -> Iterator[BucketServer]:
    """Run one for the length of the block; it is stopped by its own pid."""
    argv = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    env = os.environ | {"INITIAL_NO_AUTH_ACTION_COUNT": str(SETTING_UP), "S3_UPLOAD_PART_MIN_SIZE": "1024"}
    with child(argv, env, log) as process:
        yield _server_with_a_key(port, process, log)


def _server_with_a_key(port: int, process: subprocess.Popen[bytes], log: Path) -> BucketServer:
    config = Config(retries={"total_max_attempts": 1}, connect_timeout=2, read_timeout=10)
    iam = _client("iam", f"http://127.0.0.1:{port}", config, aws_access_key_id="any", aws_secret_access_key="any")
    for _ in range(300):
        with suppress(BotoCoreError):
            iam.create_user(UserName="ops")
            break
        if process.poll() is not None:
            break
        time.sleep(0.1)
    else:
        raise RuntimeError(f"moto did not answer in 30 s: {log.read_text()[-2000:]}")
    if process.poll() is not None:
        raise RuntimeError(f"moto ended: {log.read_text()[-2000:]}")
    key = iam.create_access_key(UserName="ops")["AccessKey"]
    iam.put_user_policy(UserName="ops", PolicyName="all", PolicyDocument=json.dumps(ALL))
    return BucketServer(port, key["AccessKeyId"], key["SecretAccessKey"])


def _client(service: str, url: str, config: Config, **keys: str) -> Any:
    client: Any = boto3.client  # its overloads know each service by its literal name
    return client(service, endpoint_url=url, region_name="us-east-1", config=config, **keys)
