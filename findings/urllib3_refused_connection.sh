#!/bin/sh
# For urllib3 2 a refused connection and an unknown name are kinds of ConnectTimeoutError: NewConnectionError inherits from
# it. Whoever catches ConnectTimeoutError to count timeouts counts servers that are down, and names that do not exist, too.
#
# Prints the version and the behaviour; ends with 1 when that is another one.
set -eu

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "urllib3==2.8.0"

"$folder/venv/bin/python" - <<'PYTHON'
import socket
import time

import urllib3
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NameResolutionError, NewConnectionError

with socket.create_server(("127.0.0.1", 0)) as listener:
    closed = listener.getsockname()[1]

print("urllib3", urllib3.__version__)
pool = urllib3.PoolManager(retries=False, timeout=5.0)
for url, kind in (
    (f"http://127.0.0.1:{closed}/", NewConnectionError),
    ("http://nowhere.invalid/", NameResolutionError),
):
    began = time.monotonic()
    try:
        pool.request("GET", url)
    except HTTPError as error:
        late = isinstance(error, ConnectTimeoutError)
        print(f"{type(error).__name__}: a ConnectTimeoutError: {'yes' if late else 'no'}, after {time.monotonic() - began:.2f} s of 5 s")
        assert type(error) is kind and late, "the behaviour has changed"
    else:
        raise SystemExit("somebody answered")
PYTHON
