"""An S3-compatible store on loopback that knows all that the room asks for, but for what a test takes away.

It keeps objects in memory and checks each signature over the whole path. What it refuses, and with which words, are
the manners of real stores.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from blocks.target_bucket import BucketStore
from tests.support.store_manners import Asked, Manners, RefusedError

KEY_ID, SECRET = "the-id-of-the-key", "the/secret+of=the-key"
SHA256 = "x-amz-checksum-sha256"
NAMESPACE = "{http://s3.amazonaws.com/doc/2006-03-01/}"


@dataclass
class Kept:
    """An object, or a part of one."""

    body: bytes
    etag: str
    sums: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Unfinished:
    key: str
    sums: bool
    parts: dict[int, Kept] = field(default_factory=dict)


@dataclass
class PickyStore:
    """The store. `asked` are all requests, `refused` those that met one of its refusals."""

    manners: Manners = field(default_factory=Manners)
    path: str = ""
    bucket: str = "backups"
    page_size: int = 1000
    port: int = 0
    objects: dict[str, Kept] = field(default_factory=dict)
    unfinished: dict[str, Unfinished] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def store(self, **fields: Any) -> BucketStore:
        """What the room would ask."""
        host = self.manners.host or "127.0.0.1"
        given: dict[str, Any] = {
            "bucket": self.bucket,
            "region": "us-east-1",
            "endpoint_url": f"http://{host}:{self.port}{self.path}",
            "prefix": "odoo",
            "access_key_id": KEY_ID,
            "secret_access_key": SECRET,
            "patient": False,
        }
        return BucketStore(**given | fields)

    def answer(self, asked: Asked) -> tuple[dict[str, str], bytes]:
        """Headers and body of the answer. Raises RefusedError."""
        self.asked.append(asked)
        for refusal in self.manners.refusals:
            if refusal.holds(asked):
                self.refused.append((asked.operation, refusal.word))
                raise RefusedError(refusal.status, refusal.code, refusal.message)
        known = {name: value for name, value in asked.headers.items() if name not in self.manners.ignores}
        asked = replace(asked, query={one: it for one, it in asked.query.items() if one not in self.manners.ignores})
        work = getattr(self, re.sub(r"([A-Z])", r"_\1", asked.operation).lower())
        answer: tuple[dict[str, str], bytes] = work(asked, known)
        return answer

    def _put_object(self, asked: Asked, known: Mapping[str, str]) -> tuple[dict[str, str], bytes]:
        self._check_taken(asked, known)
        kept = self._take(asked, known)
        self.objects[asked.key] = kept
        return {"ETag": kept.etag, **kept.sums}, b""

    def _create_multipart_upload(self, asked: Asked, known: Mapping[str, str]) -> tuple[dict[str, str], bytes]:
        name = f"upload-{next(self.numbers)}"
        self.unfinished[name] = Unfinished(asked.key, sums="x-amz-checksum-algorithm" in known)
        return {}, xml("InitiateMultipartUploadResult", UploadId=name)

    def _upload_part(self, asked: Asked, known: Mapping[str, str]) -> tuple[dict[str, str], bytes]:
        upload = self._upload(asked)
        if upload.sums != (SHA256 in known) and not self.manners.lenient and SHA256 not in self.manners.ignores:
            raise RefusedError(400, "InvalidRequest", "Checksum Type mismatch occurred")
        kept = upload.parts[int(asked.query["partNumber"])] = self._take(asked, known)
        return {"ETag": kept.etag, **kept.sums}, b""

    def _complete_multipart_upload(self, asked: Asked, known: Mapping[str, str]) -> tuple[dict[str, str], bytes]:
        upload = self._upload(asked)
        self._check_taken(asked, known)
        wanted = [
            {one.tag.removeprefix(NAMESPACE): one.text or "" for one in part}
            for part in ElementTree.fromstring(asked.body)  # noqa: S314 - boto3 wrote it
        ]
        parts = [upload.parts[int(part["PartNumber"])] for part in wanted]
        for part, kept in zip(wanted, parts, strict=True):
            if part["ETag"] != kept.etag or part.get("ChecksumSHA256") not in (None, kept.sums.get(SHA256)):
                raise RefusedError(400, "InvalidPart")
            promised = kept.sums or (upload.sums and self.manners.lenient)
            if promised and "ChecksumSHA256" not in part and self.manners.sums_in_list:
                raise RefusedError(
                    400, "InvalidRequest", "The complete request must include the checksum for each part"
                )
        body = b"".join(kept.body for kept in parts)
        whole = hashlib.md5(b"".join(_md5(kept.body) for kept in parts), usedforsecurity=False).hexdigest()
        sums = {SHA256: _composite([kept.sums[SHA256] for kept in parts])} if upload.sums and parts[0].sums else {}
        self.objects[asked.key] = Kept(body, self._etag(f"{whole}-{len(parts)}"), sums)
        del self.unfinished[asked.query["uploadId"]]
        return {}, xml("CompleteMultipartUploadResult", ETag=self.objects[asked.key].etag)

    def _abort_multipart_upload(self, asked: Asked, known: Mapping[str, str]) -> tuple[dict[str, str], bytes]:
        self._upload(asked)
        del self.unfinished[asked.query["uploadId"]]
        return {}, b""

    def _list_multipart_uploads(self, asked: Asked, known: Mapping[str, str]) -> tuple[dict[str, str], bytes]:
        found = [(name, one.key) for name, one in self.unfinished.items()]
        return {}, xml("ListMultipartUploadsResult", Upload=[{"Key": key, "UploadId": name} for name, key in found])

    def _head_object(self, asked: Asked, known: Mapping[str, str]) -> tuple[dict[str, str], bytes]:
        kept = self._object(asked)
        said = {"ETag": kept.etag, "Content-Length": str(len(kept.body))}
        if kept.sums and "x-amz-checksum-mode" in known:
            other = {
                "whole": {SHA256: _base64(_sha256(kept.body))},
                "crc": {"x-amz-checksum-crc64nvme": "AAAAAAAAAAA="},
            }
            said |= other.get(self.manners.sums, kept.sums)
        return said, b""

    def _get_object(self, asked: Asked, known: Mapping[str, str]) -> tuple[dict[str, str], bytes]:
        kept = self._object(asked)
        if "range" not in known:
            return {"ETag": kept.etag}, kept.body
        start, _, end = known["range"].removeprefix("bytes=").partition("-")
        body = kept.body[int(start) : int(end or len(kept.body)) + 1]
        if not body:
            raise RefusedError(416, "InvalidRange")
        said = f"bytes {start}-{int(start) + len(body) - 1}/{len(kept.body)}"
        return {"ETag": kept.etag, "Content-Range": said}, body

    def _delete_object(self, asked: Asked, known: Mapping[str, str]) -> tuple[dict[str, str], bytes]:
        self.objects.pop(asked.key, None)
        return {}, b""

    def _list_objects_v2(self, asked: Asked, known: Mapping[str, str]) -> tuple[dict[str, str], bytes]:
        if "list-type" not in asked.query:
            return self._list_objects(asked, known)
        return {}, self._listing(asked, "continuation-token", "NextContinuationToken")

    def _list_objects(self, asked: Asked, known: Mapping[str, str]) -> tuple[dict[str, str], bytes]:
        return {}, self._listing(asked, "marker", "NextMarker" if "delimiter" in asked.query else "")

    def _listing(self, asked: Asked, word: str, next_one: str) -> bytes:
        if asked.bucket != self.bucket:
            raise RefusedError(404, "NoSuchBucket")
        prefix, delimiter = asked.query.get("prefix", ""), asked.query.get("delimiter", "")
        rest = {key: key.removeprefix(prefix) for key in sorted(self.objects) if key.startswith(prefix)}
        keys = [key for key, left in rest.items() if key > asked.query.get(word, "")]
        keys = [key for key in keys if not delimiter or delimiter not in rest[key]]
        page = keys[: min(self.page_size, int(asked.query.get("max-keys", 1000)))]
        said: dict[str, Any] = {"IsTruncated": str(len(page) < len(keys)).lower()}
        said["Contents"] = [{"Key": key, "Size": len(self.objects[key].body)} for key in page]
        if next_one and len(page) < len(keys):
            said[next_one] = page[-1]
        return xml("ListBucketResult", **said)

    def _object(self, asked: Asked) -> Kept:
        if asked.key not in self.objects:
            raise RefusedError(404, "NoSuchKey")
        return self.objects[asked.key]

    def _upload(self, asked: Asked) -> Unfinished:
        if asked.query["uploadId"] not in self.unfinished:
            raise RefusedError(404, "NoSuchUpload")
        return self.unfinished[asked.query["uploadId"]]

    def _check_taken(self, asked: Asked, known: Mapping[str, str]) -> None:
        if known.get("if-none-match") == "*" and asked.key in self.objects:
            raise RefusedError(412, "PreconditionFailed")

    def _take(self, asked: Asked, known: Mapping[str, str]) -> Kept:
        """What was sent, compared with the sums that the store knows."""
        body = bytearray(asked.body)
        if self.manners.damages:
            body[len(body) // 2] ^= 1
        sums = {SHA256: known[SHA256]} if SHA256 in known else {}
        if not self.manners.echoes and known.get("content-md5", _base64(_md5(body))) != _base64(_md5(body)):
            raise RefusedError(400, "BadDigest", "The Content-MD5 you specified did not match what we received.")
        if not self.manners.echoes and known.get(SHA256, _base64(_sha256(body))) != _base64(_sha256(body)):
            raise RefusedError(400, "BadDigest", "The x-amz-checksum-sha256 did not match what we received.")
        return Kept(bytes(body), self._etag(_md5(body).hex()), {} if self.manners.sums == "none" else sums)

    def _etag(self, md5: str) -> str:
        return {"md5": f'"{md5}"', "opaque": f'"etag-{next(self.numbers)}"', "none": '""'}[self.manners.etags]


def _md5(body: bytes | bytearray) -> bytes:
    return hashlib.md5(body, usedforsecurity=False).digest()


def _sha256(body: bytes | bytearray) -> bytes:
    return hashlib.sha256(body).digest()


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


def _composite(sums: list[str]) -> str:
    return f"{_base64(_sha256(b''.join(map(base64.b64decode, sums))))}-{len(sums)}"


def xml(name: str, **fields: Any) -> bytes:
    """A document as S3 writes them."""

    def shown(value: Any) -> str:
        return "".join(map(element, value.items())) if isinstance(value, dict) else escape(str(value))

    def element(item: tuple[str, Any]) -> str:
        values = item[1] if isinstance(item[1], list) else [item[1]]
        return "".join(f"<{item[0]}>{shown(one)}</{item[0]}>" for one in values)

    namespace = "" if name == "Error" else f' xmlns="{NAMESPACE.strip("{}")}"'
    return f'<?xml version="1.0"?><{name}{namespace}>{shown(fields)}</{name}>'.encode()
