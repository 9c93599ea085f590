"""Signs webhooks as the Standard Webhooks specification says (1.0, "Signature scheme"). Pure.

HMAC-SHA256 signs `{webhook-id}.{webhook-timestamp}.{body}`. The header holds one `v1,{base64}` for each value of the secret,
separated by spaces: while the secret is rotated, a receiver verifies the one that it knows.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Final

_PREFIX: Final = "whsec_"


class BadSecret(ValueError):
    """A secret cannot sign. The message says why and holds nothing of the secret."""


def keys(secret: str | None) -> list[bytes]:
    """The keys of a webhook's secret: one, or several separated by commas while it is rotated.

    Each value is `whsec_` and base64, or any other text, which is the key as it is. Raises BadSecret.
    """
    found = [_key(value) for text in (secret or "").split(",") if (value := text.strip())]
    if not found:
        raise BadSecret("it has no secret to sign with: set webhook_secret")
    return found


def sign(secret_keys: list[bytes], message_id: str, timestamp: int, body: bytes) -> str:
    """The `webhook-signature` of a message sent at `timestamp`, in seconds since 1970 (UTC)."""
    signed = b"%b.%d.%b" % (message_id.encode(), timestamp, body)
    digests = [hmac.new(key, signed, hashlib.sha256).digest() for key in secret_keys]
    return " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests)


def _key(value: str) -> bytes:
    if not value.startswith(_PREFIX):
        return value.encode()
    try:
        key = base64.b64decode(value.removeprefix(_PREFIX), validate=True)
    except ValueError:
        raise BadSecret("its secret is not base64 after whsec_") from None
    if not key:
        raise BadSecret("its secret is empty after whsec_")
    return key
