"""Checks of whom we call: the origin of the files, the backend, and the receivers of webhooks."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from urllib3.exceptions import HTTPError
from urllib3.util import parse_url

from jobqueue.doctor.checkup import Checkup, Verdict, fail, warn, well
from jobqueue.errors import JobError
from jobqueue.net.address_guard import Guard, Refused
from jobqueue.net.http_pool import describe, pool
from jobqueue.origin.origin_client import OriginClient
from jobqueue.schedule.target_caller import Caller
from jobqueue.schedule.targets import open_targets
from jobqueue.webhooks.signing import BadSecret, keys

if TYPE_CHECKING:
    from collections.abc import Iterator

_SECONDS: Final = 10.0

# A key that the origin is known to have had, if any: the newest published one.
_KNOWN_KEY: Final = b"""
SELECT source_key FROM public.auction_files
WHERE publish_status = 'published' AND deleted_at IS NULL AND source_key IS NOT NULL
ORDER BY published_at DESC NULLS LAST LIMIT 1"""

_WEBHOOKS: Final = b"""
SELECT id::text, webhook_url, webhook_secret FROM public.app_webhooks WHERE is_active ORDER BY id LIMIT 500"""

# Names that are looked up at once, and seconds for each.
_LOOKUPS: Final = 8
_LOOKUP_SECONDS: Final = 5.0


def origin(checkup: Checkup) -> Verdict:
    """The origin answers, and takes our secret."""
    media = checkup.settings.require_media()
    known = checkup.rows(_KNOWN_KEY) if "schema" in checkup.facts else []
    key = known[0][0] if known else f"jobqueue-check/{uuid.uuid4()}"
    client = OriginClient(media.raid_pub_endpoint, media.raid_publisher_secret.first, pool_size=1)
    manager = pool(1, read_seconds=_SECONDS)
    peer = f"the origin {client.host}"
    try:
        headers = {"Authorization": f"Bearer {media.raid_publisher_secret.first}"}
        answer = manager.request("GET", client.url(key), headers=headers, preload_content=False, redirect=False)
        answer.close()
    except HTTPError as error:
        return fail(describe(error, peer), "check RAID_PUB_ENDPOINT, and that this machine may reach it")
    finally:
        manager.clear()
        client.close()
    match answer.status:
        case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN:
            return fail(f"{peer} refused our secret ({answer.status})", "check RAID_PUBLISHER_SECRET")
        case HTTPStatus.OK | HTTPStatus.PARTIAL_CONTENT if known:
            return well(f"{peer} gave the file that was published last")
        case HTTPStatus.OK | HTTPStatus.PARTIAL_CONTENT:
            return warn(f"{peer} answered a key that no file has with {answer.status}", "check RAID_PUB_ENDPOINT")
        case HTTPStatus.NOT_FOUND | HTTPStatus.GONE if known:
            return warn(
                f"{peer} no longer has the file that was published last ({answer.status})", "check RAID_PUB_ENDPOINT"
            )
        case HTTPStatus.NOT_FOUND | HTTPStatus.GONE:
            return well(f"{peer} answers, and takes our secret")
    return fail(f"{peer} answered {answer.status}", "check RAID_PUB_ENDPOINT")


def backend(checkup: Checkup) -> Verdict | None:
    """The backend gives its settings."""
    if checkup.settings.backend_url is None:
        return None
    caller = Caller(open_targets(checkup.settings, (), checkup.environ), connections=1)
    try:
        settings = caller.settings()
    except JobError as error:
        return fail(f"{error}: the last good settings are used", "check BACKEND_URL and WORKER_API_KEY")
    finally:
        caller.close()
    return well(f"the backend gives its settings; its jobs are {'on' if settings.enable_jobs else 'off'}")


def webhook_targets(checkup: Checkup) -> Iterator[Verdict]:
    """Receivers of webhooks can be dialled."""
    settings = checkup.settings
    guard = Guard(settings.webhook_allowed_cidrs, allow_http=settings.webhook_allow_http)
    found = checkup.rows(_WEBHOOKS)
    with ThreadPoolExecutor(_LOOKUPS) as threads:
        reasons = list(threads.map(lambda row: _unreachable(guard, row[1] or ""), found))
    bad = [(row[0], reason) for row, reason in zip(found, reasons, strict=True) if reason is not None]
    for id_, reason in bad[:5]:
        yield warn(
            f"the webhook {id_} cannot be delivered: {reason}", f"mend its webhook_url in app_webhooks (id {id_})"
        )
    if not bad:
        yield well(f"the addresses of {len(found)} active webhooks can be dialled")


def webhook_secrets(checkup: Checkup) -> Iterator[Verdict]:
    """Secrets of webhooks can sign."""
    clean = True
    for id_, _, secret in checkup.rows(_WEBHOOKS):
        try:
            keys(secret)
        except BadSecret as error:
            clean = False
            yield warn(
                f"the webhook {id_} cannot be signed: {error}", f"mend its webhook_secret in app_webhooks (id {id_})"
            )
    if clean:
        yield well("the secrets of all active webhooks can sign")


def _unreachable(guard: Guard, url: str) -> str | None:
    try:
        guard.check_url(url)
        parts = parse_url(url)
        guard.resolve(str(parts.host), parts.port or 443, _LOOKUP_SECONDS)
    except Refused as error:
        return str(error)
    except OSError:
        return "its host's name does not resolve"
    return None
