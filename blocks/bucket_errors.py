"""What a bucket's answers mean for an operator. Nothing that the server wrote is passed on but its error code."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError

from blocks.target_store import TakenError, TargetAwayError, TargetError

_KEYS = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "AuthFailure", "InvalidSecurity", "401"}
_REGION = {"PermanentRedirect", "AuthorizationHeaderMalformed", "TemporaryRedirect", "301", "307"}
_FORBIDDEN = {"AccessDenied", "AllAccessDisabled", "403"}
_CLOCK = {"RequestTimeTooSkewed", "RequestExpired"}
_TAKEN = {"PreconditionFailed", "412"}
_NO_CONDITION = {"NotImplemented", "InvalidArgument", "InvalidRequest"}
_LATER = {"ConditionalRequestConflict", "SlowDown", "RequestTimeout", "Throttling", "TooManyRequests", "429"}


def knows_no_condition(answer: Mapping[str, Any]) -> bool:
    """Whether the store refused `If-None-Match` as such, and not what was to be written."""
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status == 501 or answer.get("Error", {}).get("Code") in _NO_CONDITION


@contextmanager
def translated(place: str) -> Iterator[None]:
    """Raise TargetError for what boto3 raises: its own words may quote what was sent."""
    try:
        yield
    except ClientError as error:
        raise refusal(place, error.response) from None
    except (BotoCoreError, Boto3Error) as error:
        raise TargetAwayError(
            f"{place} does not answer ({type(error).__name__})",
            advice="see whether endpoint_url of the block is right, and whether this host reaches it",
        ) from None


def refusal(place: str, answer: Mapping[str, Any]) -> TargetError:  # noqa: PLR0911 - one answer for each kind of refusal
    """The error that says what the answer means."""
    code = str(answer.get("Error", {}).get("Code", ""))
    status = int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) or 0)
    shown = f"{code if re.fullmatch(r'[A-Za-z0-9.]{1,60}', code) else 'an error'}, HTTP {status}"
    if code in _KEYS:
        return TargetError(
            f"{place} refused the keys ({shown})",
            advice="correct access_key_id and secret_access_key of the block",
        )
    if code in _FORBIDDEN:
        return TargetError(
            f"{place} does not allow these keys to do that ({shown})",
            advice="let them list, read, write and delete objects in it",
        )
    if code in ("NoSuchBucket", "InvalidBucketName"):
        return TargetError(
            f"{place} is not there ({shown})", advice="make the bucket, or correct bucket and endpoint_url of the block"
        )
    if code in ("NoSuchKey", "NotFound", "404"):
        return TargetError(f"{place} does not hold what was asked for ({shown})", advice="list what is there")
    if code in _REGION:
        return TargetError(f"{place} is elsewhere ({shown})", advice="correct region and endpoint_url of the block")
    if code in _CLOCK:
        return TargetError(f"{place} finds this host's clock wrong ({shown})", advice="set the clock")
    if code in _TAKEN:
        return TakenError(f"{place} was sent that by another just now ({shown})", advice="start the run again")
    if code in _LATER or status >= 500:
        return TargetAwayError(f"{place} cannot answer now ({shown})", advice="try again later")
    return TargetError(f"{place} refused a request ({shown})", advice="see what its documentation says of that code")
