"""What is asked about keys, rights, regions and clocks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from unittest.mock import patch

from tests.stores.checks import Store, begin, check, client, gone
from tests.support.s3 import without_list_right

from jobqueue.errors import Permanent, Retry
from jobqueue.storage.store_failures import AccessRefused

if TYPE_CHECKING:
    from jobqueue.storage.objects import Objects


@check("a key that may not list writes, reads and deletes")
def without_listing(store: Store) -> str | None:
    with without_list_right(store.endpoint) as front, client(store, endpoint=front.url) as objects:
        try:
            objects.head("n/none")
        except AccessRefused:
            pass
        else:
            raise AssertionError("403 counts as seen")
        objects.put("n/x", b"x", content_type="text/plain")
        upload = begin(objects, "n/y")
        upload.part(1, bytearray(b"0123456789"))
        upload.complete(10)
        upload.complete(10)
        assert objects.get("n/y") == b"0123456789"
        for key in ("n/x", "n/y"):
            objects.delete(key)
    with client(store) as objects:
        assert list(objects.keys("n/")) == []
    return None


@check("an unknown key, and a wrong secret, are refused")
def credentials(store: Store) -> str | None:
    taken = []
    for words, differing, variable in (
        ("any key", {"key_id": "unknown-key-id"}, "B2_KEY_ID"),
        ("any secret", {"app_key": "wrong-app-key-canary"}, "B2_APP_KEY"),
    ):
        with client(store, **differing) as objects:
            said = refusal(objects)
            if said is None:
                taken.append(words)
                continue
            assert variable in said
            assert "canary" not in said
    return f"takes {' and '.join(taken)}" if taken else None


def refusal(objects: Objects) -> str | None:
    """What the product says when the store refuses for good to take an object; None when it takes it."""
    try:
        objects.put("rights/x", b"x", content_type="text/plain")
    except Permanent as error:
        return str(error)
    gone(objects, "rights/x")
    return None


@check("a missing bucket is called so")
def missing_bucket(store: Store) -> str | None:
    with client(store, bucket="jobqueue-no-such-bucket") as objects:
        said = refusal(objects)
    if said is None:
        return "makes it"
    return None if "has no bucket" in said else "refuses it in other words"


@check("another region is refused")
def another_region(store: Store) -> str | None:
    with client(store, region="mars-north-9") as objects:
        said = refusal(objects)
    if said is None:
        return "takes any"
    assert "B2_REGION" in said or "B2_APP_KEY" in said
    return None


@check("a clock that is an hour off is refused, and the job tried again")
def clock_skew(store: Store) -> str | None:
    off = (datetime.now(UTC) - timedelta(hours=1)).replace(tzinfo=None)
    with client(store) as objects:
        with patch("botocore.auth.get_current_datetime", return_value=off):
            try:
                objects.put("t/x", b"x", content_type="text/plain")
            except Retry:
                return None
            except Permanent:
                return "refuses it in other words, and the job fails"
        gone(objects, "t/x")
    return "takes any"
