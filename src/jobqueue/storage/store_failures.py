"""What the errors of boto3 mean for a job, in sentences that name the variable to check and no secret."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, IncompleteReadError
from botocore.exceptions import ConnectionError as BotoConnectionError
from botocore.parsers import ResponseParserError

from jobqueue.errors import JobError, Permanent, Retry
from jobqueue.net.http_pool import describe, host_of, retry_after

if TYPE_CHECKING:
    from collections.abc import Iterator

# Codes that pass although their status (400, 403, 409) says otherwise: a body damaged or too slow on its way, a race, a
# clock that is off until somebody sets it.
_PASSING = frozenset(
    {
        "BadDigest",
        "IncompleteBody",
        "OperationAborted",
        "RequestTimeout",
        "RequestTimeTooSkewed",
        "SlowDown",
        "XAmzContentSHA256Mismatch",
    }
)
# rclone calls that AccessDenied, with 400; the sentence is that of every store.
_CLOCK_IS_OFF = "difference between the request time and"
_PASSING_STATUS = frozenset({408, 409, 425, 429})
_WRONG_REGION = frozenset({"AuthorizationHeaderMalformed", "PermanentRedirect", "TemporaryRedirect"})
_REDIRECTS = frozenset({301, 302, 307, 308})
_SAID_CHARACTERS = 200


class AccessRefused(Permanent):
    """The store lets the key not do this. To a key that may not list, a missing object is one that it may not read."""


def code_of(error: ClientError) -> str:
    """The code in the store's answer, such as `NoSuchKey`. It is the status where the answer had no body."""
    return str(error.response.get("Error", {}).get("Code", ""))


def status_of(error: ClientError) -> int:
    """The HTTP status of the store's answer; 0 where none is known."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


@dataclass(frozen=True, slots=True)
class Failures:
    """Translates the errors of one bucket at one store. It removes `secrets` from whatever the store says."""

    host: str
    bucket: str
    secrets: tuple[str, ...] = field(repr=False)

    @contextmanager
    def translated(self, action: str) -> Iterator[None]:
        """Turn boto3's errors into Permanent and Retry. `action` completes the words "the key may"."""
        try:
            yield
        except ClientError as error:
            raise self._refused(error, action) from error
        except (HTTPClientError, BotoConnectionError, IncompleteReadError) as error:
            cause = getattr(error, "kwargs", {}).get("error")
            raise Retry(describe(cause if isinstance(cause, Exception) else error, self._store)) from error
        except (ResponseParserError, ValueError) as error:
            # What boto3 cannot parse is no answer of a store: a proxy or a portal spoke, or a part of it was lost. boto3
            # lets the errors of its date and number parsers through as they are.
            raise Retry(f"{self._store} answered something that cannot be read ({type(error).__name__})") from error
        except BotoCoreError as error:
            raise Permanent(f"a request to {self._store} could not be made ({type(error).__name__})") from error

    @property
    def _store(self) -> str:
        return f"the store {self.host}"

    def _refused(self, error: ClientError, action: str) -> JobError:
        code, status, store, said = code_of(error), status_of(error), self._store, self._said(error)
        answer = f"({status} {code})" if code and code != str(status) else f"({status})"
        busy = status in _PASSING_STATUS or (status >= 500 and status != HTTPStatus.NOT_IMPLEMENTED)
        if busy or code in _PASSING or _CLOCK_IS_OFF in said:
            headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
            after = retry_after(headers.get("retry-after"), headers.get("date"))
            wish = "" if after is None else f" and asks to wait {after:.0f} s"
            return Retry(f"{store} could not take the request {answer}{wish}{said}", after)
        headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        if code == str(status) and "xml" in headers.get("content-type", "") and error.operation_name != "HeadObject":
            # boto3 puts the status there when it could not read the document: a part of it was lost on the way.
            return Retry(f"{store} refused the request {answer}, and its reason was cut short on the way")
        if code == "NoSuchBucket":
            return Permanent(f"{store} has no bucket {self.bucket} {answer}: check B2_BUCKET")
        if code == "InvalidAccessKeyId":
            return Permanent(f"{store} does not know our key {answer}: check B2_KEY_ID")
        if code == "SignatureDoesNotMatch":
            return Permanent(f"{store} does not accept our signature {answer}: check B2_APP_KEY")
        location = headers.get("location", "")
        if status in _REDIRECTS and "://" in location:
            # Its path and query stay out: they may hold what we sent.
            target = f"{urlsplit(location).scheme}://{host_of(location)}"
            return Permanent(f"{store} sends us to {target} {answer}: check B2_ENDPOINT and B2_REGION")
        if code in _WRONG_REGION or status in _REDIRECTS:
            return Permanent(f"{store} does not serve our region {answer}: check B2_REGION and B2_ENDPOINT")
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            return AccessRefused(
                f"{store} refused access {answer}: check B2_KEY_ID and B2_APP_KEY, and that the key may {action}"
                f" in the bucket {self.bucket} of B2_BUCKET{said}"
            )
        if status == HTTPStatus.NOT_FOUND and code != "NoSuchKey":
            return Permanent(f"{store} knows nothing at this address {answer}: check B2_ENDPOINT and B2_BUCKET")
        return Permanent(f"{store} did not accept the request {answer}{said}")

    def _said(self, error: ClientError) -> str:
        """The store's own sentence, cut short. It may tell of caps and quotas."""
        text = " ".join(error.response.get("Error", {}).get("Message", "").split())
        for secret in self.secrets:
            text = text.replace(secret, "***")
        text = "".join(character for character in text if character.isprintable())[:_SAID_CHARACTERS]
        return f"; it says: {text}" if text else ""
