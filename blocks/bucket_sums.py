"""What a store's answer about an object proves. Some stores repeat the sums that they were sent, and compare
nothing."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from blocks.bucket_errors import found_damage
from blocks.bucket_requests import Requests
from blocks.checksums import Sums
from blocks.target_store import Proof


def proof_by_word(requests: Requests, where: Mapping[str, str], head: Mapping[str, Any], sums: Sums) -> Proof | None:
    """The part of a HEAD's answer that proves that the object is what has these sums; None where nothing does."""
    # encrypted with such a key, the ETag is not the MD5 of what was sent
    hidden = head.get("SSECustomerAlgorithm") or str(head.get("ServerSideEncryption", "")).startswith("aws:kms")
    etag = None if hidden else head.get("ETag")
    proof = sums.proof(size_bytes=sums.size_bytes, sha256=head.get("ChecksumSHA256"), etag=etag)
    if proof is Proof.SHA256 and sums.proof(size_bytes=sums.size_bytes, sha256=None, etag=etag) is None:
        if requests.compares_sums is None:
            requests.compares_sums = _compares_sums(requests, where)
        return proof if requests.compares_sums else None
    return proof


def _compares_sums(requests: Requests, where: Mapping[str, str]) -> bool:
    """Whether the store refuses a part whose SHA-256 is wrong, in an upload that is never completed."""
    try:
        made = requests.ask("create_multipart_upload", **where, ChecksumAlgorithm="SHA256")
    except ClientError:
        return False
    key: dict[str, Any] = {**where, "UploadId": made["UploadId"]}
    try:
        requests.client.upload_part(**key, PartNumber=1, Body=b"sent", ChecksumSHA256=Sums().add(b"told").sha256)
    except ClientError as error:
        return found_damage(error.response)
    finally:
        with suppress(ClientError, BotoCoreError):  # what is left then, the next upload of that name drops
            requests.ask("abort_multipart_upload", **key)
    return False
