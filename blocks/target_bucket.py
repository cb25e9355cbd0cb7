"""A backup target that is a bucket of an S3-compatible store, asked by boto3."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from blocks.bucket_errors import knows_no_condition, translated
from blocks.checksums import PartSum, Sums, part_bytes, parts_of, sums_of
from blocks.target_store import LARGEST_READ, TakenError, TargetError, Tell, silent

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from types_boto3_s3 import S3Client
    from types_boto3_s3.type_defs import CompletedPartTypeDef

AT_ONCE = 4
"""Parts that are sent at once; so many, and one more, are in memory."""
_CHUNK_BYTES = 1024 * 1024
ACCESS_KEY_ID, SECRET_ACCESS_KEY = "TARGET_ACCESS_KEY_ID", "TARGET_SECRET_ACCESS_KEY"

for _name in ("boto3", "botocore", "s3transfer", "urllib3"):
    logging.getLogger(_name).setLevel(logging.WARNING)  # below that they write down headers and signatures


@dataclass(frozen=True)
class BucketStore:
    """Objects under a prefix. `endpoint_url` is None at AWS."""

    bucket: str
    region: str
    endpoint_url: str | None
    prefix: str
    access_key_id: str = field(repr=False)
    secret_access_key: str = field(repr=False)
    patient: bool = True
    """Whether it is asked again and waited for; a test is not."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> BucketStore:
        """What `public` and `secrets` describe."""
        return cls(
            **json.loads(environment["TARGET"]),
            access_key_id=environment[ACCESS_KEY_ID],
            secret_access_key=environment[SECRET_ACCESS_KEY],
        )

    @property
    def place(self) -> str:
        """See Store."""
        return f"bucket {self.bucket} at {self.endpoint_url or f'AWS {self.region}'}"

    @property
    def public(self) -> Mapping[str, str]:
        """See Store."""
        described = {
            "bucket": self.bucket,
            "region": self.region,
            "endpoint_url": self.endpoint_url,
            "prefix": self.prefix,
        }
        return {"TARGET": json.dumps(described)}

    @property
    def secrets(self) -> Mapping[str, str]:
        """See Store."""
        return {ACCESS_KEY_ID: self.access_key_id, SECRET_ACCESS_KEY: self.secret_access_key}

    def url(self, name: str) -> str:
        """See Store."""
        return f"s3://{self.bucket}/{self._key(name)}"

    def look(self) -> None:
        """See Store."""
        with translated(self.place):
            self._client.list_objects_v2(Bucket=self.bucket, Prefix=self._key(""), MaxKeys=1)

    def is_beside(self, folder: Path) -> bool:  # noqa: ARG002 - never
        """See Store."""
        return False

    def sizes(self, start: str = "") -> dict[str, int]:
        """See Store. What lies deeper than the prefix is not of ours."""
        folder = self._key("")
        with translated(self.place):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=self._key(start), Delimiter="/"
            )
            return {
                one["Key"].removeprefix(folder): one["Size"]
                for page in pages
                for one in page.get("Contents", [])
                if one["Key"] != folder
            }

    def read(self, name: str) -> bytes:
        """See Store."""
        with translated(self.place), self._opened(name) as body:
            return bytes(body.read(LARGEST_READ))

    def sha256(self, name: str) -> str:
        """See Store."""
        whole = hashlib.sha256()
        with translated(self.place), self._opened(name) as body:
            for chunk in body.iter_chunks(_CHUNK_BYTES):
                whole.update(chunk)
        return whole.hexdigest()

    def put(self, file: Path, *, sha256: str, tell: Tell = silent) -> bool:
        """See Store. Each part carries its checksums, and the whole is compared when it is there."""
        size_bytes = file.stat().st_size
        if not self._is_there(file.name):
            try:
                self._check_arrived(file.name, self._send(file, size_bytes, sha256, tell))
            except TakenError:
                pass  # so there is something now, which is not ours to delete
            except BaseException:
                with suppress(TargetError):
                    self.delete(file.name)
                raise
            else:
                return True
        if not self._holds(file.name, _undamaged(file, sums_of(file, size_bytes), sha256)):
            raise TargetError(
                f"{self.url(file.name)} is there already, and it is another file",
                advice="nothing was overwritten; see who wrote it, and move it away",
            )
        return False

    def get(self, name: str, file: Path, *, tell: Tell = silent) -> None:
        """See Store."""
        done = 0

        def count(more: int) -> None:
            nonlocal done
            done += more
            tell(done)

        with translated(self.place):
            self._client.download_file(self.bucket, self._key(name), str(file), Callback=count)

    def delete(self, name: str) -> None:
        """See Store."""
        with translated(self.place):
            self._client.delete_object(Bucket=self.bucket, Key=self._key(name))

    def drop_unfinished(self, ours: Callable[[str], bool]) -> list[str]:
        """See Store: multipart uploads that nobody completed, which cost as much as objects."""
        folder, dropped = self._key(""), []
        with translated(self.place):
            for page in self._client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self.bucket, Prefix=folder
            ):
                for one in page.get("Uploads", []):
                    name = one["Key"].removeprefix(folder)
                    if ours(name):
                        self._client.abort_multipart_upload(
                            Bucket=self.bucket, Key=one["Key"], UploadId=one["UploadId"]
                        )
                        dropped.append(name)
        return dropped

    @cached_property
    def _client(self) -> S3Client:
        # what a newer AWS does by default, some other stores do not know: the sums are given with each request
        config = Config(
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            ignore_configured_endpoint_urls=True,  # type: ignore[call-arg]  # the stubs lack it
            connect_timeout=10 if self.patient else 4,
            read_timeout=30 if self.patient else 4,
            retries={"mode": "standard", "total_max_attempts": 3 if self.patient else 1},
            s3={"addressing_style": "path" if self.endpoint_url else "virtual"},
            max_pool_connections=10,
        )
        client: S3Client = boto3.session.Session(
            aws_access_key_id=self.access_key_id,
            aws_secret_access_key=self.secret_access_key,
            region_name=self.region,
        ).client("s3", endpoint_url=self.endpoint_url, config=config)
        return client

    def _key(self, name: str) -> str:
        return f"{self.prefix}/{name}" if self.prefix else name

    def _is_there(self, name: str) -> bool:
        return name in self.sizes(name)

    def _opened(self, name: str) -> closing[StreamingBody]:
        return closing(self._client.get_object(Bucket=self.bucket, Key=self._key(name))["Body"])

    def _check_arrived(self, name: str, sums: Sums) -> None:
        if not self._holds(name, sums):
            raise TargetError(
                f"{self.url(name)} did not arrive as it was sent",
                advice="it was removed again; try again, and look for a fault of the network or of the store",
            )

    def _holds(self, name: str, sums: Sums) -> bool:
        """Whether the object is this file: by what the store says of it, or else by reading it back."""
        with translated(self.place):
            head = self._client.head_object(Bucket=self.bucket, Key=self._key(name), ChecksumMode="ENABLED")
        if head["ContentLength"] != sums.size_bytes:
            return False
        # encrypted with such a key, the ETag is not the MD5 of what was sent
        hidden = head.get("SSECustomerAlgorithm") or str(head.get("ServerSideEncryption", "")).startswith("aws:kms")
        etag = None if hidden else head.get("ETag")
        if sums.agree(size_bytes=head["ContentLength"], sha256=head.get("ChecksumSHA256"), etag=etag):
            return True
        return self.sha256(name) == sums.sha256

    def _send(self, file: Path, size_bytes: int, sha256: str, tell: Tell) -> Sums:
        sums = Sums()
        if size_bytes <= part_bytes(size_bytes):
            data = next(iter(parts_of(file, size_bytes)))
            part = sums.add(data)
            _undamaged(file, sums, sha256)
            self._send_whole(file.name, data, part)
            tell(len(data))
            return sums
        key: dict[str, Any] = {"Bucket": self.bucket, "Key": self._key(file.name)}
        with translated(self.place):
            key["UploadId"] = self._client.create_multipart_upload(**key, ChecksumAlgorithm="SHA256")["UploadId"]
            try:
                done = self._send_parts(key, parts_of(file, size_bytes), sums, tell)
                _undamaged(file, sums, sha256)
                self._client.complete_multipart_upload(**key, MultipartUpload={"Parts": done})
            except BaseException:
                with suppress(Exception):  # what is left then, the next upload drops
                    self._client.abort_multipart_upload(**key)
                raise
        return sums

    def _send_whole(self, name: str, data: bytes, part: PartSum) -> None:
        """Raises TakenError where another was there first, if the store knows such a condition."""
        request: dict[str, Any] = {"Bucket": self.bucket, "Key": self._key(name), "Body": data}
        request |= {"ContentMD5": part.md5, "ChecksumSHA256": part.sha256}
        with translated(self.place):
            try:
                self._client.put_object(**request, IfNoneMatch="*")
            except ClientError as error:
                if not knows_no_condition(error.response):
                    raise
                self._client.put_object(**request)

    def _send_parts(
        self, key: Mapping[str, Any], parts: Iterable[bytes], sums: Sums, tell: Tell
    ) -> list[CompletedPartTypeDef]:
        done: list[CompletedPartTypeDef] = []
        under_way: deque[tuple[int, Future[CompletedPartTypeDef]]] = deque()
        sent = 0

        def finish_one() -> None:
            nonlocal sent
            size, part = under_way.popleft()
            done.append(part.result())
            sent += size
            tell(sent)

        pool = ThreadPoolExecutor(AT_ONCE)
        try:
            for number, data in enumerate(parts, start=1):
                if len(under_way) == AT_ONCE:
                    finish_one()
                under_way.append((len(data), pool.submit(self._send_part, key, number, data, sums.add(data))))
            while under_way:
                finish_one()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # at the end of all this nobody sends any more
        return done

    def _send_part(self, key: Mapping[str, Any], number: int, data: bytes, part: PartSum) -> CompletedPartTypeDef:
        answer = self._client.upload_part(
            **key, PartNumber=number, Body=data, ContentMD5=part.md5, ChecksumSHA256=part.sha256
        )
        completed: CompletedPartTypeDef = {"PartNumber": number, "ETag": answer["ETag"]}
        if "ChecksumSHA256" in answer:  # a store that keeps these sums wants them again, another may not know the word
            completed["ChecksumSHA256"] = answer["ChecksumSHA256"]
        return completed


def _undamaged(file: Path, sums: Sums, sha256: str) -> Sums:
    if sums.sha256 != sha256:
        raise TargetError(
            f"{file} is damaged: its sha256 is not that of its manifest", advice="it was not uploaded; make a new one"
        )
    return sums
