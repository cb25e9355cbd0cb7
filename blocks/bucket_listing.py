"""What a bucket holds, by whichever listing its store knows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from botocore.exceptions import ClientError

from blocks.bucket_errors import may_refuse_a_part
from blocks.bucket_requests import Requests
from blocks.target_store import TargetError

_NEW, _OLD = "list_objects_v2", "list_objects"
_LISTING = {"Name", "Prefix", "MaxKeys", "IsTruncated", "KeyCount", "Contents"}


def list_objects(requests: Requests, bucket: str, prefix: str) -> Iterator[Mapping[str, Any]]:
    """The objects whose keys begin with the prefix, and no "/" after it where the store knows delimiters.

    Raises ClientError, and TargetError for a listing that does not continue.
    """
    place: dict[str, str] = {}  # where the next page begins
    while True:
        page = first_page(requests, bucket, prefix, **place)
        yield from (one for one in page.get("Contents", []) if one["Key"].startswith(prefix))
        if not page.get("IsTruncated"):
            return
        last, place = place, _next(page)
        if place in ({}, last):
            raise TargetError(
                f"bucket {bucket} lists its objects up to a point, and not beyond it",
                advice="give the room a bucket or a prefix of its own, with fewer objects",
            )


def first_page(requests: Requests, bucket: str, prefix: str, **more: Any) -> Mapping[str, Any]:
    """One page of objects. A store that lacks the newer listing is asked for the older one."""
    request: dict[str, Any] = {"Bucket": bucket, "Prefix": prefix, "Delimiter": "/", **more}
    if "Marker" not in more and not requests.refuses(_NEW):
        try:
            page = requests.ask(_NEW, **request)
        except ClientError as error:
            if "ContinuationToken" in more or not may_refuse_a_part(error.response):
                raise
            page = requests.ask(_OLD, **request)
            requests.note_refusal(error, _NEW)
        return _checked(page, bucket)
    return _checked(requests.ask(_OLD, **request), bucket)


def _checked(page: Mapping[str, Any], bucket: str) -> Mapping[str, Any]:
    """A web page of another server reads as a listing of nothing, and must not be taken for an empty bucket."""
    if _LISTING.isdisjoint(page):
        raise TargetError(
            f"what answers for bucket {bucket} is not an S3-compatible store",
            advice="correct endpoint_url of the block: some stores want a path in it, as /storage/v1/s3",
        )
    return page


def _next(page: Mapping[str, Any]) -> dict[str, str]:
    """Where the next page begins. A store that ignores the newer listing answers as for the older one."""
    if token := page.get("NextContinuationToken"):
        return {"ContinuationToken": token}
    keys = [one["Key"] for one in page.get("Contents", [])] + [one["Prefix"] for one in page.get("CommonPrefixes", [])]
    marker = page.get("NextMarker") or max(keys, default="")
    return {"Marker": marker} if marker else {}
