"""python verify.py LIBRARY: reads {secret, raw, body, headers} as JSON; ends with 0 where the library verifies."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from typing import Any


def standardwebhooks(secret: Any, body: str, headers: dict[str, str]) -> None:
    import_module("standardwebhooks.webhooks").Webhook(secret).verify(body, headers)


def svix(secret: Any, body: str, headers: dict[str, str]) -> None:
    import_module("svix.webhooks").Webhook(secret).verify(body, headers)


def openai(secret: Any, body: str, headers: dict[str, str]) -> None:
    text = secret.decode() if isinstance(secret, bytes) else secret
    import_module("openai").OpenAI(api_key="none").webhooks.verify_signature(body, headers, secret=text)


if __name__ == "__main__":
    given = json.load(sys.stdin)
    key = given["secret"].encode() if given["raw"] else given["secret"]
    try:
        {"standardwebhooks": standardwebhooks, "svix": svix, "openai": openai}[sys.argv[1]](
            key, given["body"], given["headers"]
        )
    except Exception as error:  # noqa: BLE001 - however it refuses
        sys.exit(f"{type(error).__name__}: {error}")
