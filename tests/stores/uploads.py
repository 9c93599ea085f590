"""What is asked of uploads in parts."""

from __future__ import annotations

import os
from contextlib import suppress

from tests.stores.checks import NAME, PART, Store, begin, check, client, gone

from jobqueue.artifacts.entry_names import content_disposition
from jobqueue.errors import JobError, Retry
from jobqueue.storage.multipart import UploadGone, abort, unfinished


@check("parts in any order, one of them sent again, make an object that nobody sees before")
def parts(store: Store) -> str | None:
    data = os.urandom(2 * PART + 1000)
    with client(store) as objects:
        upload = begin(objects, "p/a.zip")
        upload.part(3, bytearray(data[2 * PART :]))
        upload.part(1, bytearray(data[:PART]))
        upload.part(2, bytearray(data[PART : 2 * PART]))
        upload.part(1, bytearray(data[:PART]))
        assert objects.head("p/a.zip") is None
        upload.complete(len(data))
        assert objects.get("p/a.zip", max_bytes=len(data)) == data
        info = objects.head("p/a.zip")
        gone(objects, "p/a.zip")
    assert info is not None
    asked = {
        "content_type": "application/zip",
        "cache_control": "private, no-cache",
        "content_disposition": content_disposition(NAME),
    }
    lost = [name.replace("_", "-").title() for name, value in asked.items() if getattr(info, name) != value]
    return f"keeps no {', '.join(lost)}" if lost else None


@check("a part that is sent again with other bytes takes the place of the first")
def replaced_part(store: Store) -> str | None:
    with client(store) as objects:
        upload = begin(objects, "q/a")
        upload.part(1, bytearray(b"9876543210"))
        try:
            upload.part(1, bytearray(b"0123456789"))
        except JobError as error:
            upload.abort()
            return "refuses it" if isinstance(error, Retry) else "refuses it for good, and the job fails"
        upload.complete(10)
        assert objects.get("q/a") == b"0123456789"
        gone(objects, "q/a")
    return None


@check("unfinished uploads are listed by prefix, until they are aborted")
def unfinished_uploads(store: Store) -> str | None:
    with client(store) as objects:
        uploads = [begin(objects, key) for key in ("u/a", "u/b", "other/c")]
        found = list(unfinished(objects, "u/"))
        assert all(each.begun.tzinfo is not None for each in found)
        for each in uploads:
            each.abort()
            each.abort()
        assert list(unfinished(objects, "u/")) == []
    if {(each.key, each.id) for each in found} == {(each.key, each.id) for each in uploads[:2]}:
        return None
    assert found == [], "an upload is listed that is none"
    return "lists none"


@check("completing again, after an answer that was lost, succeeds")
def completed_twice(store: Store) -> str | None:
    with client(store) as objects:
        upload = begin(objects, "twice/a")
        upload.part(1, bytearray(b"0123456789"))
        upload.complete(10)
        upload.complete(10)
        assert objects.get("twice/a") == b"0123456789"
        gone(objects, "twice/a")
    return None


@check("an abort that comes after the completion changes nothing")
def aborted_late(store: Store) -> str | None:
    with client(store) as objects:
        upload = begin(objects, "late/a")
        upload.part(1, bytearray(b"0123456789"))
        upload.complete(10)
        upload.abort()
        abort(objects, "late/a", upload.id)
        assert objects.get("late/a") == b"0123456789"
        gone(objects, "late/a")
    return None


@check("an upload that was aborted takes neither a part nor its completion")
def part_after_abort(store: Store) -> str | None:
    taken = []
    with client(store) as objects:
        upload = begin(objects, "aborted/a")
        upload.part(1, bytearray(b"0123456789"))
        upload.abort()
        with suppress(UploadGone):
            upload.part(1, bytearray(b"0123456789"))
            taken.append("a part")
        with suppress(UploadGone):
            upload.complete(10)
            taken.append("its completion")
        gone(objects, "aborted/a")
        upload.abort()
    return f"takes {' and '.join(taken)}" if taken else None


# The last, for not every store goes on after it.
@check("a part with another ETag than it has, or one that never came, is refused")
def lost_parts(store: Store) -> str | None:
    data, wrong = os.urandom(PART), '"00000000000000000000000000000000"'
    taken = []
    with client(store) as objects:
        for words, etags in (("another ETag", {1: wrong}), ("a part that never came", {2: wrong})):
            upload = begin(objects, "lost/a")
            upload.part(1, bytearray(data))
            upload._etags |= etags
            size = PART + (10 if 2 in etags else 0)
            try:
                upload.complete(size)
            except UploadGone:
                upload.abort()
            except Retry:
                # It has made an object of what it had, and the product saw that this is not all.
                assert 2 in etags
                taken.append(words)
            else:
                assert objects.get("lost/a", max_bytes=size) == data
                taken.append(words)
            gone(objects, "lost/a")
    return f"takes {' and '.join(taken)}" if taken else None
