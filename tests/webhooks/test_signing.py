"""Signatures, judged by the published receiver."""

from __future__ import annotations

import base64
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from jobqueue.webhooks.signing import BadSecret, keys, sign

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def headers(secret: str, message_id: str, body: bytes) -> dict[str, str]:
    now = int(time.time())
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(now),
        "webhook-signature": sign(keys(secret), message_id, now, body),
    }


def test_the_example_of_the_specification() -> None:
    body = b'{"test": 2432232314}'
    signature = sign(keys(SECRET), "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@given(st.binary(min_size=1, max_size=80), st.binary())
def test_a_receiver_verifies_whatever_is_sent(key: bytes, body: bytes) -> None:
    document = b'"%b"' % base64.b64encode(body)
    secret = f"whsec_{base64.b64encode(key).decode()}"
    Webhook(secret).verify(document, headers(secret, "a", document))


def test_during_rotation_receivers_with_either_secret_verify() -> None:
    new = "whsec_" + base64.b64encode(b"another key of thirty-two bytes!").decode()
    sent = headers(f"{new}, {SECRET}", "msg", b"{}")
    assert len(sent["webhook-signature"].split(" ")) == 2
    for secret in (new, SECRET):
        Webhook(secret).verify(b"{}", sent)
    with pytest.raises(WebhookVerificationError):
        Webhook("whsec_" + base64.b64encode(b"a third").decode()).verify(b"{}", sent)


@pytest.mark.parametrize("prefix", ["whsec_", ""])
@given(key=st.binary(min_size=1, max_size=80), padding=st.booleans())
def test_base64_as_people_paste_it_means_what_the_library_reads(prefix: str, key: bytes, padding: bool) -> None:
    text = base64.b64encode(key).decode()
    secret = prefix + (text if padding else text.rstrip("="))
    for receiver in (Webhook(secret), Webhook(key)):
        receiver.verify(b"{}", headers(f" {secret}\n", "msg", b"{}"))


def test_base64_without_its_prefix_may_still_be_meant_as_text() -> None:
    Webhook(b"mysecret").verify(b"{}", headers("mysecret", "msg", b"{}"))
    Webhook("mysecret").verify(b"{}", headers("mysecret", "msg", b"{}"))


@pytest.mark.parametrize("secret", ["abcde", "my-secret", "a=b", "===", "ä"])
def test_text_that_the_libraries_refuse_or_read_differently_is_its_own_key(secret: str) -> None:
    assert keys(secret) == [secret.encode()]


def test_a_raw_secret_is_its_own_key() -> None:
    Webhook(b"not base64 at all!").verify(b"{}", headers("not base64 at all!", "msg", b"{}"))


@pytest.mark.parametrize(
    ("secret", "reason"), [(None, "no secret"), ("", "no secret"), (" , ", "no secret"), ("whsec_a", "not base64"),
                           ("whsec_ä", "not base64"), ("whsec_", "empty"),
                           ("whsec_-_-_YWJj", "URL-safe base64: write"), ("whsec_YW Jj", "not base64"),
                           ("whsec_YWJj=ZA", "not base64"), ("whsec_====", "not base64")],
)  # fmt: skip
def test_what_cannot_sign_is_refused_without_being_told(secret: str | None, reason: str) -> None:
    with pytest.raises(BadSecret, match=reason):
        keys(secret)
