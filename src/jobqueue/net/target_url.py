"""The address that a target is called at: its base URL, and a path that somebody else chose.

A path stands in rows that anybody who may insert a job can write, and the request carries the target's secret. After
`https://backend.example.com` a path could go on with the host (`.evil.example/`), give it a port (`:8443/`), or make all
of it a user name (`@evil.example/`). So a path has to begin with a slash, which ends the authority; and `join_path` reads
the whole URL again.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple, NewType
from urllib.parse import unquote

from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

TargetUrl = NewType("TargetUrl", str)
"""A URL that `join_path` made: the target's secret may be sent to it."""

# With a second slash the path would begin with a host (RFC 3986 section 4.2). A query may follow: schedules have one. A
# fragment is never sent, so whoever writes one expects something else. Browsers and some servers take a backslash for a
# slash, and leave tabs and newlines out; a proxy may make ASCII of characters that look like it.
_PATH: Final = re.compile(r"/(?!/)[!-\"$-\[\]-~]{0,2000}")
_EXAMPLE: Final = "such as /cron/ee-recent?delta=25"


class BadPath(ValueError):
    """A path that no target is called with. The message is a phrase, to follow the caller's name for the path."""


def check_path(path: object) -> str:
    """Return `path`, query and all, when it may be appended to a base URL. Raises BadPath when not."""
    if not isinstance(path, str):
        raise BadPath(f"must be text: a path, {_EXAMPLE}")
    if not _PATH.fullmatch(path):
        raise BadPath(
            "must begin with one slash and go on with at most 2000 printable ASCII characters, none of them a space, #"
            f" or backslash, {_EXAMPLE}"
        )
    # urllib3 resolves these: they would lead out of a base URL's own path, and make //x of /.//x. A server that decodes
    # first does the same with those written in percent signs.
    if {".", ".."} & set(re.split(r"[/\\]", unquote(path.partition("?")[0]))):
        raise BadPath(f"must not have . or .. between its slashes, {_EXAMPLE}")
    return path


def join_path(base: str, path: object) -> TargetUrl:
    """The URL of `path` below `base`, a URL without query that does not end in a slash.

    Raises BadPath for what `check_path` refuses, and when scheme, user name, host or port would not be those of `base`.
    """
    url = base + check_path(path)
    try:
        stays = _authority(url) == _authority(base)
    except LocationParseError:
        raise BadPath("cannot be called: the target's base URL is not a valid one") from None
    if not stays:
        raise BadPath("leads to another server: scheme, host and port must stay those of the target's base URL")
    return TargetUrl(url)


class _Authority(NamedTuple):
    scheme: str | None
    user: str | None
    host: str | None
    port: int | None


def _authority(url: str) -> _Authority:
    """Whom `url` leads to, as the parser reads it that tells the connection where to go."""
    parts = parse_url(url)
    return _Authority(parts.scheme, parts.auth, parts.host, parts.port)
