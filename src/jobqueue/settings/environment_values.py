"""The kinds of value that an environment variable can hold. Each parses text, or says in one phrase what it must be.

No phrase quotes the text: a secret pasted into the wrong variable must not reach a log.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_network
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from pydantic import BeforeValidator, ByteSize, TypeAdapter, ValidationError

Network = IPv4Network | IPv6Network

# What boto3 takes for a host: it quotes any other in its error.
_HOST: Final = re.compile(r"(?=.{1,254}\Z)(?:(?!-)[A-Za-z0-9-]{1,63}(?<!-)\.)*(?!-)[A-Za-z0-9-]{1,63}(?<!-)\.?")

# Application keys of Backblaze B2, and secret access keys of Amazon.
_KEY_SHAPE: Final = re.compile(r"K00[0-9][A-Za-z0-9+/]{27}|(?=.*[A-Z])(?=.*[a-z])[A-Za-z0-9+/]{40}")

_BYTES: Final = TypeAdapter(ByteSize)
_FLAGS: Final = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}


def whole(low: int, high: int) -> BeforeValidator:
    """Accept a whole number from `low` to `high`."""

    def parse(value: Any) -> int:
        text = str(value).strip()
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", text) or not low <= int(text) <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return int(text)

    return BeforeValidator(parse)


def number(low: float, high: float) -> BeforeValidator:
    """Accept a decimal number from `low` to `high`."""

    def parse(value: Any) -> float:
        text = str(value).strip()
        if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text) or not low <= float(text) <= high:
            raise ValueError(f"must be a number from {low:g} to {high:g}")
        return float(text)

    return BeforeValidator(parse)


def size(low: int, high: int) -> BeforeValidator:
    """Accept a number of bytes, plain or with a unit (KiB, MiB, GiB; kB, MB, GB are powers of ten)."""

    def parse(value: Any) -> int:
        try:
            count = int(_BYTES.validate_python(str(value).strip()))
        except ValidationError:
            raise ValueError("must be a number of bytes, plain or with a unit such as MiB") from None
        if not low <= count <= high:
            raise ValueError(f"must be from {low} to {high} bytes")
        return count

    return BeforeValidator(parse)


def flag() -> BeforeValidator:
    """Accept true or false, yes or no, on or off, 1 or 0."""

    def parse(value: Any) -> bool:
        known = _FLAGS.get(str(value).strip().lower())
        if known is None:
            raise ValueError("must be true or false")
        return known

    return BeforeValidator(parse)


def one_of(*words: str) -> BeforeValidator:
    """Accept one of `words`, in any case."""

    def parse(value: Any) -> str:
        word = str(value).strip().lower()
        if word not in words:
            raise ValueError(f"must be one of {', '.join(words)}")
        return word

    return BeforeValidator(parse)


def name(pattern: str, what: str) -> BeforeValidator:
    """Accept text that matches `pattern` as a whole; `what` describes it in words."""

    def parse(value: Any) -> str:
        text = str(value).strip()
        if not re.fullmatch(pattern, text):
            raise ValueError(f"must be {what}")
        return text

    return BeforeValidator(parse)


def bucket() -> BeforeValidator:
    """Accept the name of a bucket, and nothing that has the shape of a key: a bucket's name is told in messages."""

    def parse(value: Any) -> str:
        text = str(value).strip()
        if _KEY_SHAPE.fullmatch(text):
            raise ValueError("must be a bucket's name, and looks like a key")
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.-]{1,61}[A-Za-z0-9]", text):
            raise ValueError("must be a bucket's name: 3 to 63 letters, digits, dots or hyphens")
        return text

    return BeforeValidator(parse)


def http_url() -> BeforeValidator:
    """Accept an http(s) URL that a query is appended to."""

    def parse(value: Any) -> str:
        text = str(value).strip()
        _split_http(text)
        return text

    return BeforeValidator(parse)


def base_url() -> BeforeValidator:
    """Accept an http(s) URL that paths are appended to; the trailing slash is dropped."""

    def parse(value: Any) -> str:
        text = str(value).strip()
        _split_http(text)
        return text.rstrip("/")

    return BeforeValidator(parse)


def endpoint() -> BeforeValidator:
    """Accept a host, which is then reached by https, or an http(s) URL without a path.

    A single word without a port is no host: it may be a key, and hosts are told in messages.
    """

    def parse(value: Any) -> str:
        given = str(value).strip().rstrip("/")
        text = given if "://" in given else f"https://{given}"
        parts = _split_http(text)
        if parts.path:
            raise ValueError("must be a host or a URL without a path; the bucket has its own variable")
        host = parts.hostname or ""
        if not (_HOST.fullmatch(host) or _is_ipv6(host)):
            raise ValueError("must have a host's name of letters, digits, dots and hyphens")
        if text is not given and parts.port is None and not re.search("[.:]", host) and host != "localhost":
            raise ValueError("must be a host with a dot in its name, or a URL")
        return text

    return BeforeValidator(parse)


def networks() -> BeforeValidator:
    """Accept networks in CIDR notation, separated by commas."""

    def parse(value: Any) -> tuple[Network, ...]:
        found: list[Network] = []
        for position, text in enumerate(filter(None, (part.strip() for part in str(value).split(","))), start=1):
            try:
                found.append(ip_network(text))
            except ValueError:
                raise ValueError(f"entry {position} must be a network in CIDR notation, host bits zero") from None
        return tuple(found)

    return BeforeValidator(parse)


def listen_host() -> BeforeValidator:
    """Accept an address or host name to listen on; the brackets of an IPv6 address are dropped."""

    def parse(value: Any) -> str:
        text = str(value).strip().removeprefix("[").removesuffix("]")
        if not re.fullmatch(r"[0-9A-Za-z._:%-]{1,253}", text):
            raise ValueError("must be an address or a host name to listen on, without a port")
        return text

    return BeforeValidator(parse)


def existing_file() -> BeforeValidator:
    """Accept the path of a file that is there."""

    def parse(value: Any) -> Path:
        path = Path(str(value).strip())
        if not path.is_file():
            raise ValueError("must be the path of a file that exists")
        return path

    return BeforeValidator(parse)


def _is_ipv6(host: str) -> bool:
    try:
        IPv6Address(host)
    except ValueError:
        return False
    return True


def _split_http(text: str) -> SplitResult:
    try:
        parts = urlsplit(text)
        well_formed = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        well_formed = False
    if not well_formed or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("must be an http:// or https:// URL")
    if "@" in parts.netloc:
        raise ValueError("must not carry a user name or password")
    if "?" in text or "#" in text:
        raise ValueError("must not carry a query or a fragment")
    return parts
