"""A file on its way into a bucket: whole, or in parts that are sent side by side, with checksums."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from blocks.bucket_errors import may_refuse_a_part
from blocks.bucket_requests import Requests
from blocks.checksums import PartSum, Sums, part_bytes, parts_of, undamaged
from blocks.target_store import TakenError, Tell

if TYPE_CHECKING:
    from types_boto3_s3.type_defs import CompletedPartTypeDef

AT_ONCE = 4
"""Parts that are sent at once; one more than this is in memory."""


class _SumsRefusedError(Exception):
    """The store takes no SHA-256 of a part: the upload begins again without, since it was promised them."""


@dataclass
class Upload:
    """One file, and the object that it becomes. Nothing is overwritten, as far as the store can know it."""

    requests: Requests
    file: Path
    where: Mapping[str, str]
    """Bucket and Key."""
    sha256: str
    is_there: Callable[[], bool]
    """Whether there is an object of that name by now."""
    tell: Tell
    in_parts: bool
    """Whether also a small file is sent in parts."""
    may_be_there: bool = field(default=False, init=False)
    """Whether the store was asked to make the object."""

    def send(self) -> Sums:
        """Returns the sums of what was sent. Raises ClientError, TakenError and TargetError."""
        size_bytes = self.file.stat().st_size
        if size_bytes <= part_bytes(size_bytes) and not self.in_parts:
            return self._send_whole(size_bytes)
        try:
            return self._send_in_parts(size_bytes)
        except _SumsRefusedError:
            return self._send_in_parts(size_bytes)

    def _send_whole(self, size_bytes: int) -> Sums:
        sums = Sums()
        data = next(iter(parts_of(self.file, size_bytes)))
        part = sums.add(data)
        undamaged(self.file, sums, self.sha256)
        self.may_be_there = True
        self.requests.ask(
            "put_object", **self.where, Body=data, ContentMD5=part.md5, ChecksumSHA256=part.sha256, IfNoneMatch="*"
        )
        self.tell(len(data))
        return sums

    def _send_in_parts(self, size_bytes: int) -> Sums:
        sums = Sums()
        promise = {} if self._refuses_sums() else {"ChecksumAlgorithm": "SHA256"}
        made = self.requests.ask("create_multipart_upload", **self.where, **promise)
        key = {**self.where, "UploadId": made["UploadId"]}
        try:
            done = self._send_parts(key, parts_of(self.file, size_bytes), sums)
            undamaged(self.file, sums, self.sha256)
            self._complete(key, done)
        except BaseException:
            with suppress(Exception):  # what is left then, the next upload drops
                self.requests.ask("abort_multipart_upload", **key)
            raise
        return sums

    def _refuses_sums(self) -> bool:
        return self.requests.refuses("create_multipart_upload", "ChecksumAlgorithm") or self.requests.refuses(
            "upload_part", "ChecksumSHA256"
        )

    def _send_parts(self, key: Mapping[str, str], parts: Iterable[bytes], sums: Sums) -> list[CompletedPartTypeDef]:
        done: list[CompletedPartTypeDef] = []
        under_way: deque[tuple[int, Future[CompletedPartTypeDef]]] = deque()
        sent = 0

        def finish_one() -> None:
            nonlocal sent
            size, part = under_way.popleft()
            done.append(part.result())
            sent += size
            self.tell(sent)

        pool = ThreadPoolExecutor(AT_ONCE)
        try:
            for number, data in enumerate(parts, start=1):
                # the first one goes alone at a store of which it is not known yet what it refuses
                if under_way and (len(under_way) == AT_ONCE or not self.requests.has_answered("upload_part")):
                    finish_one()
                under_way.append((len(data), pool.submit(self._send_part, key, number, data, sums.add(data))))
            while under_way:
                finish_one()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # at the end of all this nobody sends any more
        return done

    def _send_part(self, key: Mapping[str, str], number: int, data: bytes, part: PartSum) -> CompletedPartTypeDef:
        request: dict[str, Any] = {**key, "PartNumber": number, "Body": data, "ContentMD5": part.md5}
        if self._refuses_sums():
            answer = self.requests.ask("upload_part", **request)
        else:
            answer = self._send_part_with_sum(request, part)
        completed: CompletedPartTypeDef = {"PartNumber": number, "ETag": answer["ETag"]}
        if "ChecksumSHA256" in answer:  # a store that keeps these sums needs them again, another may not know the word
            completed["ChecksumSHA256"] = answer["ChecksumSHA256"]
        return completed

    def _send_part_with_sum(self, request: Mapping[str, Any], part: PartSum) -> Mapping[str, Any]:
        try:
            answer = self.requests.ask("upload_part", **request, ChecksumSHA256=part.sha256)
        except ClientError as error:
            if self.requests.has_answered("upload_part") or not may_refuse_a_part(error.response):
                raise
            # it may have missed the sum that it was promised and that something on the way took away
            self.requests.note_refusal(error, "upload_part", "ChecksumSHA256")
            raise _SumsRefusedError from None
        if self._refuses_sums():
            raise _SumsRefusedError
        return answer

    def _complete(self, key: Mapping[str, str], done: list[CompletedPartTypeDef]) -> None:
        if self.is_there():  # hours may have gone by, and not every store knows the condition
            raise TakenError(f"{key['Key']} was written by another just now", advice="start the run again")
        self.may_be_there = True
        self.requests.ask("complete_multipart_upload", **key, MultipartUpload={"Parts": done}, IfNoneMatch="*")
