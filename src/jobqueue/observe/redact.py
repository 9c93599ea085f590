"""Removes secrets from text that leaves the process: log lines, error messages in the database, pages.

It looks for the exact values that this process loaded, in every form that URLs, headers and JSON give them, and for the
shapes of credentials that the process does not know, such as a signed URL in somebody else's message.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MASK: Final = "***"
MINIMUM_LENGTH: Final = 6
"""Characters that a value must have to be searched for: a shorter one would be found in ordinary words."""

# A hint that the text must hold, in lower case, before the pattern is tried; the pattern; its replacement.
# Every repetition is bounded or stops at a character that its prefix cannot contain, so that the time is linear in the text.
# No pattern runs across a quotation mark or a backslash: a JSON line stays a JSON line.
_SHAPES: Final = (
    # user:password@ of any URL; greedy up to the last @ of the authority, for passwords that hold one unencoded
    ("@", re.compile(r"""(://[^\s/:@"'\\]{0,256}):[^\s/"'\\]{1,1024}@"""), rf"\1:{MASK}@"),
    # signatures and credentials of presigned URLs, also those of the older kinds
    ("x-amz-", re.compile(r"""(?i)(x-amz-[a-z0-9-]{1,40}=)[^&\s"'<>\\]+"""), rf"\1{MASK}"),
    (
        "=",
        re.compile(
            r"""(?i)([?&;](?:[a-z0-9_-]{0,40}(?:token|secret|password|passwd|signature|api[_-]?key)|awsaccesskeyid|sig)=)"""
            r"""[^&\s"'<>\\]+"""
        ),
        rf"\1{MASK}",
    ),
    # key=value connection strings
    ("password", re.compile(r"""(?i)\b((?:ssl)?password\s{0,8}=\s{0,8})(?:'[^'"\\]*'|[^\s"'&,;\\]+)"""), rf"\1{MASK}"),
    # headers, as header lines and as the keys of a printed mapping; their values hold spaces and commas
    *(
        (
            hint,
            re.compile(rf"""(?i)\b({header}\\?["']?\s{{0,8}}:\s{{0,8}}(?:b(?=["']))?\\?["']?)[^"'\\\r\n]+"""),
            rf"\1{MASK}",
        )
        for hint, header in (
            ("authorization", "(?:proxy-)?authorization"),
            ("cookie", "(?:set-)?cookie"),
            ("x-", "x-[a-z-]{0,30}(?:secret|token|key|signature)"),
        )
    ),
    ("bearer", re.compile(r"(?i)\b(bearer\s{1,8})[a-z0-9._~+/=-]{6,}"), rf"\1{MASK}"),
)


class Redactor:
    """Replaces secrets by `***`. Threads may share one."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        """Search for each of `secrets` that has at least MINIMUM_LENGTH characters."""
        forms = {form for secret in secrets if len(secret) >= MINIMUM_LENGTH for form in _forms(secret)}
        # The longest first: one form may begin another.
        ordered = sorted(forms, key=lambda form: (-len(form), form))
        self._exact = re.compile("|".join(map(_pattern, ordered))) if ordered else None

    def redact(self, text: str) -> str:
        """Give `text` with every known secret and everything shaped like a credential replaced."""
        if self._exact is not None:
            text = self._exact.sub(MASK, text)
        lower = text.lower()
        for hint, shape, replacement in _SHAPES:
            if hint in lower:
                text = shape.sub(replacement, text)
        return text


def _pattern(form: str) -> str:
    # %2f and %2F are the same byte
    return re.sub("%([0-9A-Fa-f]{2})", r"%(?i:\1)", re.escape(form))


def _forms(secret: str) -> Iterator[str]:
    yield from (quote(secret), quote(secret, safe=""), quote_plus(secret))
    yield from _base64_forms(secret.encode())
    for escaped in (secret, repr(secret)[1:-1]):
        yield escaped
        yield json.dumps(escaped)[1:-1]
        yield json.dumps(escaped, ensure_ascii=False)[1:-1]


def _base64_forms(secret: bytes) -> Iterator[str]:
    """Give the characters that stand for `secret` in base64, wherever it begins in the encoded bytes.

    Base64 writes three bytes as four characters, so the secret has three forms, for the offsets 0, 1 and 2. Of each only
    those characters are always the same that hold no bit of a neighbouring byte.
    """
    for offset in range(3):
        encoded = b64encode(bytes(offset) + secret).decode().rstrip("=")
        first = (offset * 8 + 5) // 6
        last = (offset + len(secret)) * 8 // 6
        core = encoded[first:last]
        yield core
        yield core.translate(str.maketrans("+/", "-_"))
