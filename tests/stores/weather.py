"""What is asked of a store behind a line that damages, loses and delays."""

from __future__ import annotations

from tests.stores.checks import Store, before, begin, check, gone
from tests.support.http_server import Request, Wire, reply
from tests.support.s3 import ask_store

from jobqueue.errors import Permanent, Retry
from jobqueue.storage.multipart import abort, unfinished


@check("a body that was damaged on its way is refused")
def damaged_body(store: Store) -> str | None:
    def damage(request: Request, wire: Wire) -> None:
        body = request.body.replace(b"0123", b"0x23")
        ask_store(store.endpoint, Request(request.method, request.target, request.headers, body)).pass_on(request, wire)

    with before(store, damage) as objects:
        try:
            objects.put("b/x", b"0123456789", content_type="text/plain")
        except Retry:
            return None
        except Permanent:
            return "refuses it in other words, and the job fails"
        gone(objects, "b/x")
    return "takes it"


@check("an answer that was lost: what was asked is asked again, and done once")
def lost_answers(store: Store) -> str | None:
    seen: set[tuple[str, str]] = set()

    def lose(request: Request, wire: Wire) -> None:
        said = ask_store(store.endpoint, request)
        wanted = (request.method, request.target)
        if wanted in seen or request.method in ("GET", "HEAD"):
            said.pass_on(request, wire)
            return
        seen.add(wanted)
        wire.close()

    with before(store, lose) as objects:
        objects.put("a/x", b"x", content_type="text/plain")
        upload = begin(objects, "a/y")
        upload.part(1, bytearray(b"0123456789"))
        upload.complete(10)
        assert objects.get("a/y") == b"0123456789"
        gone(objects, "a/x", "a/y")
        # Where the answer to the beginning was lost, an upload is left that nobody knows but the store.
        for left in unfinished(objects, "a/"):
            abort(objects, left.key, left.id)
    assert len(seen) >= 4
    return None


@check("SlowDown, and 200 with an error for its body, are tried again")
def errors_that_pass(store: Store) -> str | None:
    slow = reply(
        503, b"<Error><Code>SlowDown</Code><Message>less</Message></Error>", {"Content-Type": "application/xml"}
    )
    failed = reply(
        200, b"<Error><Code>InternalError</Code><Message>x</Message></Error>", {"Content-Type": "application/xml"}
    )
    seen: set[tuple[str, str]] = set()

    def busy(request: Request, wire: Wire) -> None:
        wanted = (request.method, request.target)
        if wanted in seen:
            ask_store(store.endpoint, request).pass_on(request, wire)
            return
        seen.add(wanted)
        completes = request.method == "POST" and "uploadId=" in request.target
        (failed if completes else slow)(request, wire)

    with before(store, busy) as objects:
        upload = begin(objects, "s/y")
        upload.part(1, bytearray(b"0123456789"))
        upload.complete(10)
        assert objects.get("s/y") == b"0123456789"
        gone(objects, "s/y")
    return None
