from __future__ import annotations

import http.client
import socket
from contextlib import closing, suppress
from typing import TYPE_CHECKING

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, EndpointConnectionError
from tests.support.waiting import Stopwatch, eventually

from jobqueue.demo.object_store import ObjectStore

if TYPE_CHECKING:
    from pathlib import Path

    from mypy_boto3_s3.client import S3Client


def client(store: ObjectStore, app_key: str | None = None) -> S3Client:
    config = Config(
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        retries={"total_max_attempts": 1},
    )
    return boto3.client(
        "s3",
        endpoint_url=store.endpoint,
        aws_access_key_id=store.key_id,
        aws_secret_access_key=app_key or store.app_key,
        region_name=store.region,
        config=config,
    )


def test_it_keeps_what_is_put_with_its_headers(object_store: ObjectStore) -> None:
    with closing(client(object_store)) as s3:
        s3.put_object(
            Bucket=object_store.bucket,
            Key="a/b/display.webp",
            Body=b"bytes",
            ContentType="image/webp",
            CacheControl="public, max-age=60",
        )
        answer = s3.get_object(Bucket=object_store.bucket, Key="a/b/display.webp")
        assert answer["Body"].read() == b"bytes"
    assert answer["ContentType"] == "image/webp"
    assert answer["CacheControl"] == "public, max-age=60"
    assert (object_store.bucket_folder / "a/b/display.webp").read_bytes() == b"bytes"


def test_what_it_believes_of_a_folder_it_looks_up_again(object_store: ObjectStore) -> None:
    with closing(client(object_store)) as s3:
        s3.put_object(Bucket=object_store.bucket, Key="seen/before", Body=b"bytes", ContentType="image/webp")
        s3.get_object(Bucket=object_store.bucket, Key="seen/before")
        (object_store.bucket_folder / "seen/after").write_bytes(b"from elsewhere")

        def sees_it() -> bool:
            with suppress(s3.exceptions.NoSuchKey):
                return s3.get_object(Bucket=object_store.bucket, Key="seen/after")["Body"].read() == b"from elsewhere"
            return False

        eventually(sees_it)
        assert s3.head_object(Bucket=object_store.bucket, Key="seen/before")["ContentType"] == "image/webp"


def test_it_checks_the_secret(object_store: ObjectStore) -> None:
    with (
        closing(client(object_store, "another")) as s3,
        pytest.raises(ClientError, match="SignatureDoesNotMatch"),
    ):
        s3.list_objects_v2(Bucket=object_store.bucket)
    plain = http.client.HTTPConnection("127.0.0.1", object_store.port, timeout=5)
    plain.request("GET", f"/{object_store.bucket}")
    with plain.getresponse() as answer:
        assert answer.status >= 400
    plain.close()


def test_objects_and_address_survive_a_restart(tmp_path: Path) -> None:
    with ObjectStore(tmp_path, bucket="kept") as store, closing(client(store)) as s3:
        endpoint = store.endpoint
        s3.put_object(Bucket="kept", Key="k", Body=b"v")
        store.stop()
        assert not store.running
        with pytest.raises(EndpointConnectionError):
            s3.list_objects_v2(Bucket="kept")
        store.start()
        assert store.endpoint == endpoint
        assert s3.get_object(Bucket="kept", Key="k")["Body"].read() == b"v"
    assert not store.running


def test_an_idle_client_does_not_hold_up_the_end(tmp_path: Path) -> None:
    store = ObjectStore(tmp_path)
    store.start()
    with socket.create_connection(("127.0.0.1", store.port)) as silent:
        with Stopwatch() as idle:
            store.stop()
        assert idle.seconds < 4
        # A server that ends before it has accepted the connection resets it.
        with suppress(ConnectionResetError):
            assert silent.recv(1) == b""


def test_the_secret_is_not_in_the_arguments(object_store: ObjectStore) -> None:
    assert object_store._process is not None
    assert not any(object_store.app_key in argument for argument in object_store._process._process.args)  # type: ignore[operator,union-attr]
