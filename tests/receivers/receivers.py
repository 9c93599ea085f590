"""Published libraries that verify webhooks, each with a secret in every form that ours may have."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from jobqueue.webhooks.signing import keys, sign

if TYPE_CHECKING:
    from collections.abc import Iterable

PROGRAMS: Final = Path(__file__).with_name("programs")

VERIFIES: Final = "verifies"
REFUSES: Final = "refuses"

_KEY: Final = b"\xfb\xff\xbeis a key of 32 bytes, twice!!"
_BASE64: Final = base64.b64encode(_KEY).decode()
_BODY: Final = '{"type":"lot.sold","data":{"name":"Müller 拍賣"}}'


@dataclass(frozen=True, slots=True)
class Library:
    """One version of a library."""

    name: str
    version: str
    source: str


LIBRARIES: Final = (
    Library("standardwebhooks", "1.1.1", "npm"),
    Library("standardwebhooks", "1.1.0", "PyPI"),
    Library("svix", "1.99.1", "npm"),
    Library("svix", "2.9.1", "PyPI"),
    Library("openai", "7.59.0", "npm"),
    Library("openai", "3.57.0", "PyPI"),
)


@dataclass(frozen=True, slots=True)
class Form:
    """A secret as it stands with us, and as the receiver gives it to its library; `raw` where it says that it is no base64."""

    words: str
    ours: str
    theirs: str
    raw: bool = False


FORMS: Final = (
    Form("`whsec_` and base64", f"whsec_{_BASE64}", f"whsec_{_BASE64}"),
    Form("the same without `=`", f"whsec_{_BASE64.rstrip('=')}", f"whsec_{_BASE64.rstrip('=')}"),
    Form("base64 alone", _BASE64, _BASE64),
    Form("other text", "my secret: not base64!", "my secret: not base64!", raw=True),
    Form("rotated, receiver has the old one", f"whsec_{base64.b64encode(b'a new key').decode()},whsec_{_BASE64}", f"whsec_{_BASE64}"),
)  # fmt: skip


def install(folder: Path) -> None:
    """Bring all of them into `folder`."""
    packages = [f"{library.name}@{library.version}" for library in LIBRARIES if library.source == "npm"]
    npm = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder), *packages]
    subprocess.run(npm, check=True, timeout=300)
    shutil.copy(PROGRAMS / "verify.mjs", folder)
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True, timeout=120)
    pinned = [f"{library.name}=={library.version}" for library in LIBRARIES if library.source == "PyPI"]
    subprocess.run([folder / "venv/bin/pip", "install", "--quiet", *pinned], check=True, timeout=300)


def outcome(library: Library, form: Form, folder: Path, *, forged: bool = False) -> str:
    """VERIFIES or REFUSES, of a webhook that is signed now with a secret of that form; one that is forged has another body."""
    now = int(time.time())
    signature = sign(keys(form.ours), "msg_1", now, _BODY.encode())
    sent = {
        "secret": form.theirs,
        "raw": form.raw,
        "body": _BODY.replace("sold", "cold") if forged else _BODY,
        "headers": {"webhook-id": "msg_1", "webhook-timestamp": str(now), "webhook-signature": signature},
    }
    if library.source == "npm":
        command: list[str | Path] = ["node", folder / "verify.mjs", library.name]
    else:
        command = [folder / "venv/bin/python", PROGRAMS / "verify.py", library.name]
    done = subprocess.run(command, input=json.dumps(sent), text=True, capture_output=True, check=False, timeout=60)
    return VERIFIES if done.returncode == 0 else REFUSES


def table(found: Iterable[tuple[Library, Iterable[str]]]) -> str:
    """The outcomes, as the documentation shows them: a row a library, a column a form."""
    head = "| library | version | from | " + " | ".join(form.words for form in FORMS) + " |"
    rows = [f"| {it.name} | {it.version} | {it.source} | {' | '.join(said)} |" for it, said in found]
    return "\n".join([head, "|---|---|---|" + "---|" * len(FORMS), *rows])
