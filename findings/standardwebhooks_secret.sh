#!/bin/sh
# Webhook(secret) of the standardwebhooks library for Python takes any ASCII text for base64: it leaves characters out that
# are none, hyphens and underscores too, and signs with what remains. Of a URL-safe secret that is another key than was
# meant, without an error. (npm's standardwebhooks 1.1.1 refuses the same texts.)
#
# Prints the version and the behaviour; ends with 1 when that is another one.
set -eu

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "standardwebhooks==1.1.0"

"$folder/venv/bin/python" - <<'PYTHON'
import base64
from datetime import UTC, datetime
from importlib.metadata import version

from standardwebhooks.webhooks import Webhook

WHEN = datetime(2024, 1, 1, tzinfo=UTC)


def signature(secret: str | bytes) -> str:
    return Webhook(secret).sign("msg_1", WHEN, "{}")


key = b"\xfb\xff\xbeis a key of thirty-two bytes!"
standard = base64.b64encode(key).decode()
url_safe = base64.urlsafe_b64encode(key).decode()
print("standardwebhooks", version("standardwebhooks"))
print("the key, as base64:", standard, "and URL-safe:", url_safe)

seen = {
    "base64 and the bytes sign alike": signature(standard) == signature(key),
    "whsec_ may stand before it": signature(f"whsec_{standard}") == signature(key),
    "URL-safe base64 signs like the key": signature(url_safe) == signature(key),
    "URL-safe base64 signs like itself without - and _": signature(url_safe)
    == signature(url_safe.replace("-", "").replace("_", "")),
    "my-secret signs like mysecret": signature("my-secret") == signature("mysecret"),
}
for sentence, true in seen.items():
    print(f"{sentence}: {'yes' if true else 'no'}")
assert list(seen.values()) == [True, True, False, True, True], "the behaviour has changed"
PYTHON
