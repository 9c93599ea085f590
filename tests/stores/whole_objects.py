"""What is asked of objects that are written and read as a whole."""

from __future__ import annotations

import io
import os
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from botocore.exceptions import ClientError
from tests.stores.checks import NAME, PART, Store, check, client, gone

from jobqueue.artifacts.entry_names import content_disposition
from jobqueue.errors import JobError, Permanent
from jobqueue.retention.archive_format import Writer
from jobqueue.retention.archive_store import ArchiveStore

_PAGE = 1000


@check("bytes come back as they were written")
def whole_objects(store: Store) -> str | None:
    with client(store) as objects, TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(os.urandom(PART + 17))
        bodies: dict[str, bytes | Path] = {"w/empty": b"", "w/one": b"\0", "w/file": path}
        for key, body in bodies.items():
            objects.put(key, body, content_type="application/octet-stream")
            expected = body if isinstance(body, bytes) else body.read_bytes()
            assert objects.get(key, max_bytes=2 * PART) == expected
        objects.put("w/one", b"replaced", content_type="text/plain")
        assert objects.get("w/one") == b"replaced"
        info = objects.head("w/one")
        assert info is not None
        assert info.size_bytes == 8
        gone(objects, *bodies)
    return None


@check("an object keeps its Content-Type, Cache-Control and Content-Disposition, whatever script its name is in")
def headers(store: Store) -> str | None:
    asked = {
        "content_type": "image/webp",
        "cache_control": "public, max-age=31536000, immutable",
        "content_disposition": content_disposition(NAME),
    }
    with client(store) as objects:
        objects.put("h/picture.bin", b"x", **asked)
        info = objects.head("h/picture.bin")
        gone(objects, "h/picture.bin")
    assert info is not None
    assert info.modified is None or info.modified.tzinfo is not None
    lost = [name.replace("_", "-").title() for name, value in asked.items() if getattr(info, name) != value]
    return f"keeps no {', '.join(lost)}" if lost else None


@check("keys of any character")
def keys_of_any_character(store: Store) -> str | None:
    tried = ["k/a b+c.zip", "k/100%.zip", "k/ümläut 拍賣.zip", "k/a?b#c&d=e;f.zip", "k/(1) 'x'!*.zip", "k/~a_b-c.zip"]
    refused = []
    with client(store) as objects:
        for key in tried:
            try:
                objects.put(key, key.encode(), content_type="text/plain")
                if objects.get(key) != key.encode() or key not in objects.keys("k/"):
                    refused.append(key)
                gone(objects, key)
            except JobError:
                refused.append(key)
    return f"not {' '.join(refused)}" if refused else None


@check("ETag: the same from put, head and list, a strong one")
def etags(store: Store) -> str | None:
    with client(store) as objects:
        said = objects.client.put_object(Bucket=store.bucket, Key="e/x", Body=b"x")["ETag"]
        info = objects.head("e/x")
        listed = objects.client.list_objects_v2(Bucket=store.bucket, Prefix="e/x")["Contents"][0].get("ETag", "")
        gone(objects, "e/x")
    assert info is not None
    assert '"' not in info.etag
    seen = {said.strip('"'), info.etag, listed.strip('"')}
    if len(seen) > 1:
        return "another from each"
    return None if said.startswith('"') else "without quotes"


@check("a missing object: head says so, get ends the job in words")
def missing(store: Store) -> str | None:
    with client(store) as objects:
        assert objects.head("m/none") is None
        try:
            objects.get("m/none")
        except Permanent as error:
            return None if "NoSuchKey" in str(error) else "says it without NoSuchKey"
    raise AssertionError("get gave something for what is not there")


@check("delete: gone at once, and again is no error")
def delete(store: Store) -> str | None:
    with client(store) as objects:
        objects.put("d/x", b"x", content_type="text/plain")
        objects.put("d/xy", b"longer", content_type="text/plain")
        gone(objects, "d/x")
        gone(objects, "d/x")
        assert objects.get("d/xy") == b"longer"
        gone(objects, "d/xy")
        objects.check()
        assert list(objects.keys("jobqueue-check/")) == []
    return None


@check("list: by any prefix, in the order of the keys, over more than one page")
def listing(store: Store) -> str | None:
    keys = {f"l/{number:04d}" for number in range(_PAGE + 3)} | {"l/09-x/y", "lx"}
    with client(store) as objects:
        for key in sorted(keys, reverse=True):
            objects.put(key, b"", content_type="text/plain")
        found = list(objects.keys("l/"))
        half = list(objects.keys("l/09"))
        for key in keys:
            objects.client.delete_object(Bucket=store.bucket, Key=key)
    assert set(found) == keys - {"lx"}
    assert len(found) == len(set(found))
    assert set(half) == {key for key in keys if key.startswith("l/09")}
    return None if found == sorted(found) else "in another order"


@check("a range, as a browser asks for to resume")
def ranges(store: Store) -> str | None:
    with client(store) as objects:
        objects.put("r/x", b"0123456789", content_type="text/plain")
        said = objects.client.get_object(Bucket=store.bucket, Key="r/x", Range="bytes=7-")
        status, body = said["ResponseMetadata"]["HTTPStatusCode"], said["Body"].read()
        gone(objects, "r/x")
    if (status, body) == (206, b"789"):
        return None if said.get("ContentRange") == "bytes 7-9/10" else "without Content-Range"
    assert status == 200
    assert body in (b"789", b"0123456789")
    return "sends it as 200 OK, which means the whole" if body == b"789" else "sends the whole"


@check("versions: all of a key and its markers go, and those of longer keys stay")
def versions(store: Store) -> str | None:
    with client(store) as objects:
        raw = objects.client
        try:
            raw.put_bucket_versioning(Bucket=store.bucket, VersioningConfiguration={"Status": "Enabled"})
        except ClientError:
            return "keeps none"
        if raw.get_bucket_versioning(Bucket=store.bucket).get("Status") != "Enabled":
            return "keeps none, and does not say so"
        for body in (b"1", b"2", b"3"):
            objects.put("v/x", body, content_type="text/plain")
        raw.delete_object(Bucket=store.bucket, Key="v/x")
        objects.put("v/xy", b"longer", content_type="text/plain")
        objects.delete("v/x")
        left = raw.list_object_versions(Bucket=store.bucket, Prefix="v/x")
        shown = [*left.get("Versions", ()), *left.get("DeleteMarkers", ())]
        assert [each.get("Key") for each in shown] == ["v/xy"]
        gone(objects, "v/xy")
        with suppress(ClientError):
            raw.put_bucket_versioning(Bucket=store.bucket, VersioningConfiguration={"Status": "Suspended"})
    return None


@check("an archive is written from a file and read back as a stream")
def archives(store: Store) -> str | None:
    with client(store) as objects, io.BytesIO() as file:
        with Writer(file) as writer:
            for number in range(5000):
                writer.add("platform_events", f'{{"id":{number},"payload":"{os.urandom(20).hex()}"}}')
        content = writer.digest.content
        held = ArchiveStore(objects)
        held.write("z/a", file)
        assert held.holds("z/a", content)
        held.delete("z/a")
        assert not held.holds("z/a", content)
    return None
