"""A backup target that is a bucket of an S3-compatible store, asked by boto3."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from blocks.bucket_errors import forbids, may_refuse_a_part, translated
from blocks.bucket_listing import first_page, list_objects
from blocks.bucket_requests import Requests, Style
from blocks.bucket_sums import proof_by_word
from blocks.bucket_upload import Upload
from blocks.checksums import Sums, sums_of, undamaged
from blocks.target_store import LARGEST_READ, Proof, TakenError, TargetError, Tell, silent

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from types_boto3_s3 import S3Client

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
    in_parts: bool = False
    """Whether small files are sent as large ones are; a test tries both ways."""

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

    @property
    def proofs(self) -> tuple[Proof, ...]:
        """See Store."""
        return tuple(self._proofs)

    @property
    def refusals(self) -> tuple[str, ...]:
        """See Store."""
        return tuple(self._requests.refusals)

    def look(self) -> None:
        """See Store."""
        with translated(self.place):
            first_page(self._requests, self.bucket, self._key(""), MaxKeys=1)

    def is_beside(self, folder: Path) -> bool:  # noqa: ARG002 - never
        """See Store."""
        return False

    def sizes(self, start: str = "") -> dict[str, int]:
        """See Store. What lies deeper than the prefix is not of ours."""
        folder = self._key("")
        with translated(self.place):
            found = list_objects(self._requests, self.bucket, self._key(start))
            sizes = {one["Key"].removeprefix(folder): one["Size"] for one in found}
        return {name: size for name, size in sizes.items() if name and "/" not in name}

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
        upload = Upload(
            requests=self._requests,
            file=file,
            where=self._where(file.name),
            sha256=sha256,
            is_there=lambda: self._is_there(file.name),
            tell=tell,
            in_parts=self.in_parts,
        )
        if not self._is_there(file.name):
            try:
                with translated(self.place):
                    sums = upload.send()
                self._check_arrived(file.name, sums)
            except TakenError:
                pass  # so there is something now, which is not ours to delete
            except BaseException:
                if upload.may_be_there:
                    with suppress(TargetError):
                        self.delete(file.name)
                raise
            else:
                return True
        if not self._holds(file.name, undamaged(file, sums_of(file, file.stat().st_size), sha256)):
            raise TargetError(
                f"{self.url(file.name)} already exists with other content",
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
            if self._gives_ranges(name):  # which are fetched side by side
                self._client.download_file(self.bucket, self._key(name), str(file), Callback=count)
                return
            with self._opened(name) as body, file.open("wb") as target:
                for chunk in body.iter_chunks(_CHUNK_BYTES):
                    target.write(chunk)
                    count(len(chunk))

    def delete(self, name: str) -> None:
        """See Store."""
        with translated(self.place):
            self._requests.ask("delete_object", **self._where(name))

    def drop_unfinished(self, ours: Callable[[str], bool]) -> list[str]:
        """See Store: multipart uploads that nobody completed, which cost as much as objects."""
        folder, dropped = self._key(""), []
        with translated(self.place), self._done_without("list_multipart_uploads"):
            for page in self._client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self.bucket, Prefix=folder
            ):
                for one in page.get("Uploads", []):
                    name = one["Key"].removeprefix(folder)
                    if one["Key"].startswith(folder) and ours(name):
                        with self._done_without("abort_multipart_upload"):
                            self._requests.ask("abort_multipart_upload", **self._where(name), UploadId=one["UploadId"])
                            dropped.append(name)
        return dropped

    @cached_property
    def _requests(self) -> Requests:
        """What the store refuses is found out once for each store, and a process has one."""
        if not self.endpoint_url:
            return Requests(self._connect, "virtual")
        if urlsplit(self.endpoint_url).path:
            return Requests(self._connect, "path")
        return Requests(self._connect, "path", "virtual")

    @property
    def _client(self) -> S3Client:
        return self._requests.client

    def _connect(self, style: Style) -> S3Client:
        # what a newer AWS does by default, some other stores do not know: the sums are given with each request
        config = Config(
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            ignore_configured_endpoint_urls=True,  # type: ignore[call-arg]  # the stubs lack it
            connect_timeout=10 if self.patient else 4,
            read_timeout=30 if self.patient else 4,
            retries={"mode": "standard", "total_max_attempts": 3 if self.patient else 1},
            s3={"addressing_style": style},
            max_pool_connections=10,
        )
        client: S3Client = boto3.session.Session(
            aws_access_key_id=self.access_key_id,
            aws_secret_access_key=self.secret_access_key,
            region_name=self.region,
        ).client("s3", endpoint_url=self.endpoint_url, config=config)
        return client

    @cached_property
    def _proofs(self) -> dict[Proof, None]:
        return {}

    def _key(self, name: str) -> str:
        return f"{self.prefix}/{name}" if self.prefix else name

    def _where(self, name: str) -> dict[str, str]:
        return {"Bucket": self.bucket, "Key": self._key(name)}

    def _is_there(self, name: str) -> bool:
        return name in self.sizes(name)

    def _opened(self, name: str) -> closing[StreamingBody]:
        return closing(self._requests.ask("get_object", **self._where(name))["Body"])

    def _gives_ranges(self, name: str) -> bool:
        """Whether the store gives a part of an object. Some refuse it, and others give all of it instead."""
        try:
            answer = self._client.get_object(Bucket=self.bucket, Key=self._key(name), Range="bytes=0-0")
        except ClientError as error:
            if may_refuse_a_part(error.response):
                return False
            raise
        answer["Body"].close()
        return "ContentRange" in answer

    @contextmanager
    def _done_without(self, operation: str) -> Iterator[None]:
        try:
            yield
        except ClientError as error:
            if not may_refuse_a_part(error.response) and not forbids(error.response):
                raise
            self._requests.note_refusal(error, operation)

    def _check_arrived(self, name: str, sums: Sums) -> None:
        if not self._holds(name, sums):
            raise TargetError(
                f"{self.url(name)} did not arrive as it was sent",
                advice="it was removed again; try again, and look for a fault of the network or of the store",
            )

    def _holds(self, name: str, sums: Sums) -> bool:
        """Whether the object is this file: by what the store says of it, or else by reading it back."""
        head = self._head(name)
        if head.get("ContentLength", sums.size_bytes) != sums.size_bytes:
            return False
        with translated(self.place):
            proof = proof_by_word(self._requests, self._where(name), head, sums)
        if proof is None and self.sha256(name) == sums.sha256:
            proof = Proof.READ_BACK
        if proof is not None:
            self._proofs[proof] = None
        return proof is not None

    def _head(self, name: str) -> Mapping[str, Any]:
        """What the store says of an object; nothing where it does not tell."""
        answer: Mapping[str, Any] = {}
        if not self._requests.refuses("head_object"):
            with translated(self.place), self._done_without("head_object"):
                answer = self._requests.ask("head_object", **self._where(name), ChecksumMode="ENABLED")
        return answer
