from __future__ import annotations

import json
import time
from base64 import b64encode, urlsafe_b64encode
from urllib.parse import quote, quote_plus, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobqueue.observe.redact import Redactor

CANARY = 's3cr3t/"ca\\nary+é'


class TestKnownSecrets:
    @pytest.mark.parametrize(
        "form",
        [
            CANARY,
            quote(CANARY),
            quote(CANARY, safe=""),
            quote_plus(CANARY),
            quote(CANARY, safe="").replace("%2F", "%2f"),
            repr(CANARY)[1:-1],
            json.dumps(CANARY)[1:-1],
            json.dumps(CANARY, ensure_ascii=False)[1:-1],
            json.dumps(repr(CANARY)),
            b64encode(CANARY.encode()).decode(),
            urlsafe_b64encode(CANARY.encode()).decode(),
        ],
    )
    def test_every_form_is_removed(self, form: str) -> None:
        redacted = Redactor([CANARY]).redact(f"before {form} after")
        assert form not in redacted
        assert "s3cr3t" not in redacted
        assert redacted.startswith("before ")
        assert redacted.endswith(" after")

    @given(st.binary(max_size=7), st.text(st.characters(codec="ascii"), min_size=6, max_size=40), st.binary(max_size=7))
    def test_base64_is_recognised_wherever_the_secret_begins(self, before: bytes, secret: str, after: bytes) -> None:
        encoded = b64encode(before + secret.encode() + after).decode()
        redacted = Redactor([secret]).redact(encoded)
        # What is left holds at most the bits that the secret's edges share with their neighbours.
        assert "***" in redacted
        assert len(redacted) - len("***") <= len(encoded) - (len(secret) * 8 // 6 - 2)

    def test_a_longer_secret_goes_whole_before_a_shorter_one_that_it_begins_with(self) -> None:
        assert Redactor(["abcdef", "abcdef-and-more"]).redact("abcdef-and-more") == "***"

    def test_short_ones_are_left_to_the_shapes(self) -> None:
        assert Redactor(["abc", "", "fives"]).redact("abc fives") == "abc fives"

    def test_text_without_secrets_is_as_it_was(self) -> None:
        text = "GET https://raid.example.com/files?key=a/b.jpg answered 503, tried 3 times; user worker@db:5432"
        assert Redactor(["canary-canary"]).redact(text) == text


class TestShapes:
    @pytest.mark.parametrize(
        ("text", "redacted"),
        [
            ("postgres://user:canary@host/db", "postgres://user:***@host/db"),
            ("postgresql://user:can@ary@host:5432/db?a=b", "postgresql://user:***@host:5432/db?a=b"),
            ("https://:canary@host/", "https://:***@host/"),
            ("'host=h password=canary dbname=d'", "'host=h password=*** dbname=d'"),
            ("host=h password='can ary' dbname=d", "host=h password=*** dbname=d"),
            ("Authorization: Bearer canary-canary", "Authorization: ***"),
            ("{'Authorization': 'users API-Key canary'}", "{'Authorization': '***'}"),
            ("{b'authorization': b'Basic canary', 'a': 1}", "{b'authorization': b'***', 'a': 1}"),
            ('{"Proxy-Authorization": "AWS4 Credential=canary, Signature=canary"}', '{"Proxy-Authorization": "***"}'),
            ("X-CRON-SECRET: canary", "X-CRON-SECRET: ***"),
            ("x-webhook-secret: canary\nhost: h", "x-webhook-secret: ***\nhost: h"),
            ("Set-Cookie: sid=canary; Path=/", "Set-Cookie: ***"),
            ("refused bearer canary.canary-canary_1 from", "refused bearer *** from"),
            (
                "https://s3/b/k?X-Amz-Credential=canary%2F1&X-Amz-Expires=60&X-Amz-Signature=canary&x=1",
                "https://s3/b/k?X-Amz-Credential=***&X-Amz-Expires=***&X-Amz-Signature=***&x=1",
            ),
            ("/k?AWSAccessKeyId=canary&Expires=1&Signature=canary", "/k?AWSAccessKeyId=***&Expires=1&Signature=***"),
            ("/hook?access_token=canary&key=a.jpg#top", "/hook?access_token=***&key=a.jpg#top"),
        ],
    )
    def test_credentials_nobody_told_us_about(self, text: str, redacted: str) -> None:
        assert Redactor().redact(text) == redacted

    @pytest.mark.parametrize(
        "text",
        [
            "the password is wrong",
            "basic information about bearers",
            "lease_token=0e984725 attempt=1",
            "at 12:30 mail to a@b.example.com",
            "http://127.0.0.1:9000/bucket/@2x.webp",
            "https://worker@db.example.com/app",
        ],
    )
    def test_ordinary_text_is_left_alone(self, text: str) -> None:
        assert Redactor().redact(text) == text

    @given(
        st.dictionaries(st.sampled_from(["authorization", "x-api-key", "url", "password"]), st.text()),
        st.lists(st.text(st.characters(codec="utf-8"), min_size=6), max_size=3),
    )
    def test_a_json_line_stays_one(self, fields: dict[str, str], secrets: list[str]) -> None:
        """Unless a secret is made of JSON's own marks, as no real one is."""
        words = [secret for secret in secrets if not set(secret) & set('{}[]:,"\\ ')]
        line = json.dumps({key: f"{key}: {value}" for key, value in fields.items()}, ensure_ascii=False)
        json.loads(Redactor(words).redact(line))

    @pytest.mark.parametrize(
        "hostile",
        [
            "a" * 200_000,
            "://" * 70_000 + "@",
            "://:" * 50_000 + "@",
            "x-" * 100_000 + "authorization=cookie bearer password",
            "?a" * 100_000 + "=",
            "?" + "token" * 40_000,
            "password" * 25_000,
            "password" + " " * 200_000 + "=",
            "authorization" + " " * 200_000,
            "bearer " * 28_000,
            "x-amz-" * 33_000,
        ],
    )
    def test_time_is_linear_whatever_the_text(self, hostile: str) -> None:
        began = time.process_time()
        Redactor(["canary-canary"]).redact(hostile)
        assert time.process_time() - began < 1.0


def test_a_form_encoded_body_is_covered() -> None:
    assert "canary" not in Redactor(["canary & canary"]).redact(urlencode({"a": "canary & canary"}))
