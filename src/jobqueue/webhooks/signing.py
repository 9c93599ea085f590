"""Signs webhooks as the Standard Webhooks specification says (1.0, "Signature scheme"). Pure.

HMAC-SHA256 signs `{webhook-id}.{webhook-timestamp}.{body}`. The header holds one `v1,{base64}` for each key of the secret,
separated by spaces: while the secret is rotated, a receiver verifies the one that it knows.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from typing import Final

_PREFIX: Final = "whsec_"
_BASE64: Final = re.compile("[A-Za-z0-9+/]+={0,2}")


class BadSecret(ValueError):
    """A secret cannot sign. The message says why and holds nothing of the secret."""


def keys(secret: str | None) -> list[bytes]:
    """The keys of a webhook's secret, or of several separated by commas while it is rotated.

    A secret is base64, as the published libraries read it: with or without `whsec_` before it and `=` after it. Other text
    without `whsec_` is its own key, which receivers give to their library as bytes or as `raw`. Base64 without `whsec_`
    may be meant either way, and so makes two keys. Raises BadSecret.
    """
    found = [key for text in (secret or "").split(",") if (value := text.strip()) for key in _keys(value)]
    if not found:
        raise BadSecret("it has no secret to sign with: set webhook_secret")
    return found


def sign(secret_keys: list[bytes], message_id: str, timestamp: int, body: bytes) -> str:
    """The `webhook-signature` of a message sent at `timestamp`, in seconds since 1970 (UTC)."""
    signed = b"%b.%d.%b" % (message_id.encode(), timestamp, body)
    digests = [hmac.new(key, signed, hashlib.sha256).digest() for key in secret_keys]
    return " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests)


def _keys(value: str) -> list[bytes]:
    text = value.removeprefix(_PREFIX)
    decoded = _decoded(text)
    if text == value:
        return [value.encode()] if decoded is None else [decoded, value.encode()]
    if not text:
        raise BadSecret("its secret is empty after whsec_")
    if decoded is None and _decoded(text.replace("-", "+").replace("_", "/")) is not None:
        # The library for Python leaves these characters out and takes the rest for the key; that for JavaScript refuses.
        raise BadSecret("its secret is not base64 after whsec_ but URL-safe base64: write + for - and / for _")
    if decoded is None:
        raise BadSecret("its secret is not base64 after whsec_")
    return [decoded]


def _decoded(text: str) -> bytes | None:
    """What `text` means as base64 to every published library; None when they refuse it or differ."""
    digits = text.rstrip("=")
    if not _BASE64.fullmatch(text) or len(digits) % 4 == 1:
        return None
    return base64.b64decode(digits + "=" * (-len(digits) % 4))
