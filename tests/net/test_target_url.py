"""What is appended to a target's base URL, whoever wrote it, never makes it the URL of another server."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from urllib3.util import parse_url

from jobqueue.net.target_url import BadPath, check_path, join_path

BASES = [
    "https://backend.example.com",
    "https://backend.example.com:8443",
    "http://backend",
    "http://127.0.0.1:8080",
    "http://[2001:db8::1]",
    "http://[::1]:8080/prefix",
    "https://backend.example.com/a/prefix",
]

SLASH = "one slash"
DOTS = "between its slashes"

HOSTILE = [
    ("", SLASH),
    ("x", SLASH),
    ("@evil.example/x", SLASH),
    (":x@evil.example/", SLASH),
    (":80@evil/", SLASH),
    (":80/", SLASH),
    ("8/", SLASH),
    (".evil.example/", SLASH),
    ("-evil.example/", SLASH),
    ("%2eevil.example/", SLASH),
    ("?x", SLASH),
    ("#@evil.example/", SLASH),
    ("//evil.example/", SLASH),
    ("///evil.example/", SLASH),
    ("https://evil.example/", SLASH),
    ("\\evil.example/", SLASH),
    ("\\@evil.example/", SLASH),
    ("/\\evil.example/", "backslash"),
    ("/x\\..\\y", "backslash"),
    (" /x", SLASH),
    ("\t/x", SLASH),
    ("\n@evil.example/", SLASH),
    ("/\t/evil.example/", "printable"),
    ("/x\r\nX-Other: 1", "printable"),
    ("/x y", "space"),
    ("/x\n", "printable"),
    ("/x\x00", "printable"),
    ("/x\x7f", "printable"),
    ("/x\x85", "printable"),
    ("/x\u2028", "printable"),
    ("/\uff0fevil.example/", "printable"),
    ("\uff20evil.example/", SLASH),
    ("\u3002evil.example/", SLASH),
    ("/\ud800", "printable"),
    ("/x#y", "#"),
    ("/" + "x" * 2001, "at most 2000"),
    ("/../x", DOTS),
    ("/x/..", DOTS),
    ("/.//evil.example/", DOTS),
    ("/x/.?y", DOTS),
    ("/%2e%2E/x", DOTS),
    ("/x/.%2e", DOTS),
    ("/..%2fx", DOTS),
    ("/..%5Cx", DOTS),
    (None, "text"),
    (7, "text"),
    (["/x"], "text"),
]

GOOD = [
    "/",
    "/x",
    "/cron/ee-recent?delta=25",
    "/x?",
    "/x?next=//other.example/..&at=a@b:80",
    "/@me/a:b",
    "/x//y/",
    "/.well-known/x",
    "/..x/y../...",
    "/50%/a%20b%2Fc%0a",
    "/a;b=1,2/(c)!$&'*+~_[]",
    "/" + "x" * 2000,
]

_texts = st.text(st.one_of(st.sampled_from("/@:\\?#.%[]-e2x80\t\n "), st.characters()))
_paths = st.one_of(
    _texts,
    st.builds("/{}".format, st.text(st.sampled_from("/@:?.%[]-e2x80"))),
    st.builds("{}evil.example{}".format, _texts, _texts),
    st.lists(st.sampled_from(["", ".", "..", "%2e.", "x", "?", "@evil.example"])).map("/".join).map("/{}".format),
)


@pytest.mark.parametrize(("path", "words"), HOSTILE)
@pytest.mark.parametrize("base", [BASES[0], BASES[-1]])
def test_hostile_paths_are_refused_in_words(base: str, path: object, words: str) -> None:
    with pytest.raises(BadPath, match=r"^must ") as caught:
        join_path(base, path)
    assert words in str(caught.value)
    assert "evil" not in str(caught.value)


@pytest.mark.parametrize("path", GOOD)
@pytest.mark.parametrize("base", BASES)
def test_good_paths_are_appended_as_they_stand(base: str, path: str) -> None:
    assert check_path(path) == path
    assert join_path(base, path) == base + path
    assert _by_urllib3(base + path) == _by_urllib3(base)


@given(st.sampled_from(BASES), _paths)
def test_whatever_the_path_says_the_authority_is_that_of_the_base(base: str, path: str) -> None:
    try:
        url = join_path(base, path)
    except BadPath:
        return
    assert _by_urllib3(url) == _by_urllib3(base)
    assert _by_urlsplit(url) == _by_urlsplit(base)
    # What is sent stays below the base's own path, too.
    assert (parse_url(url).path or "").startswith((parse_url(base).path or "") + "/")


def test_what_was_joined_is_read_again() -> None:
    """The rule for paths would not save a base that does not end where a path may begin."""
    with pytest.raises(BadPath, match="leads to another server"):
        join_path("http:/", "/evil.example/x")


def test_a_base_that_is_no_url() -> None:
    with pytest.raises(BadPath, match="base URL is not a valid one"):
        join_path("http://back%end", "/x")


def _by_urllib3(url: str) -> tuple[object, ...]:
    parts = parse_url(url)
    return parts.scheme, parts.auth, parts.host, parts.port


def _by_urlsplit(url: str) -> tuple[object, ...]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc, parts.username, parts.password, parts.hostname, parts.port
