"""The origin and the object store fail at random until all the work is done."""

from __future__ import annotations

import io
import zipfile
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from tests.artifacts.helpers import Projects, noise
from tests.faults.weather import Answer, Request, Weather, WeatheredServer, gateway, origin
from tests.support.daemon import CDN
from tests.support.jpeg import picture
from tests.support.s3 import Bucket
from tests.support.waiting import eventually

from jobqueue.errors import Retry
from jobqueue.storage.multipart import unfinished
from jobqueue.storage.objects import Objects

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.daemon import Launch

    from jobqueue.demo.object_store import ObjectStore

pytestmark = [pytest.mark.slow, pytest.mark.faults]

SHARE = 0.2
SECRET = "origin-secret"
PICTURES = 24


@pytest.fixture
def host(database: str) -> Iterator[Projects]:
    with Projects(database) as host:
        yield host


def environment(host: Projects, source: WeatheredServer, store: WeatheredServer, bucket: Bucket) -> dict[str, str]:
    """The environment of a daemon that has its files from `source` and its bucket at `store`."""
    return {
        "DATABASE_URL": host.dsn,
        "RAID_PUB_ENDPOINT": f"{source.url}/files",
        "RAID_PUBLISHER_SECRET": SECRET,
        **bucket.environment(),
        "B2_ENDPOINT": store.url,
        "CDN_BASE_URL": CDN,
        "PORT": "0",
        "WORKER_POLL_INTERVAL": "500",
        "CONCURRENCY": "6",
    }


@pytest.mark.extended
def test_all_work_is_done_in_bad_weather(
    host: Projects, bucket: Bucket, object_store: ObjectStore, launch: Launch
) -> None:
    photos = {f"photo-{n}": picture(300 + n, 160, 120) for n in range(PICTURES)}
    media = {f"media/{n}.jpg": noise(n, 400_000) for n in range(15)}
    files = {**photos, **media}
    over_origin, over_store = Weather(1, SHARE), Weather(2, SHARE)
    with (
        WeatheredServer(origin(files.get, SECRET), over_origin) as source,
        WeatheredServer(gateway(object_store), over_store) as store,
    ):
        jobs = [host.enqueue(key, max_retries=100) for key in photos]
        project = host.project(media)
        artifact = host.ask(project, max_retries=100)
        worker = launch(environment(host, source, store, bucket))

        def all_ended() -> bool:
            # An operator who does not wait for the backoff.
            host.execute("UPDATE publish_jobs SET run_after = now() WHERE status = 'pending' AND run_after > now()")
            host.execute(
                "UPDATE download_artifacts SET run_after = now() WHERE status = 'PENDING' AND run_after > now()"
            )
            return host.states() == {"completed": len(jobs)} and host.artifact_states() == {"READY": 1}

        eventually(all_ended, 60, interval=0.2)
        assert sum(over_origin.met.values()) > 0
        assert sum(over_store.met.values()) > 0

        row = host.artifact(artifact)
        named = host.named_keys() | {row["storage_key"]}
        assert len(named) == 2 * PICTURES + 1
        assert bucket.contents() == named
        for key in host.named_keys():
            data = bucket.objects.get(key)
            assert (data[:4], data[8:12]) == (b"RIFF", b"WEBP")
            assert len(data) == int.from_bytes(data[4:8], "little") + 8
        with zipfile.ZipFile(io.BytesIO(bucket.objects.get(row["storage_key"], max_bytes=1 << 30))) as archive:
            assert archive.testzip() is None
            held = {name: archive.read(name) for name in archive.namelist()}
        # A file that could not be had in five attempts is left out and named; everything else is there as it was.
        missing = {entry["name"] for entry in row["manifest"]["missing"]}
        assert {name: data for name, data in held.items() if name.endswith(".jpg")} == {
            key.rpartition("/")[2]: data for key, data in media.items() if key.rpartition("/")[2] not in missing
        }
        assert worker.running


@pytest.mark.extended
def test_an_upload_whose_beginning_was_not_answered_does_not_stay(
    host: Projects, bucket: Bucket, object_store: ObjectStore, launch: Launch
) -> None:
    media = {f"media/{n}.jpg": noise(n, 3_000_000) for n in range(3)}
    pass_on = gateway(object_store)
    begun = 0

    def forgetful(request: Request) -> Answer:
        nonlocal begun
        answer = pass_on(request)
        if request.method == "POST" and request.target.endswith("?uploads"):
            begun += 1
            if begun == 1:
                raise ConnectionAbortedError("the answer is lost")
        return answer

    with (
        WeatheredServer(origin(media.get, SECRET), Weather(1)) as source,
        WeatheredServer(forgetful, Weather(2)) as store,
    ):
        artifact = host.ask(host.project(media))
        worker = launch(environment(host, source, store, bucket))
        eventually(lambda: host.artifact(artifact)["status"] == "READY", 30)
        assert begun == 2
        assert list(unfinished(bucket.objects, "")) == []
        assert worker.running


class Always(Weather):
    """Every request meets `fault`."""

    def __init__(self, fault: str | None) -> None:
        super().__init__(0)
        self.fault = fault

    def draw(self) -> str | None:
        return self.fault


@pytest.mark.extended
def test_a_refusal_of_which_only_a_part_came_is_not_the_last_word(object_store: ObjectStore) -> None:
    """Where nothing was ever uploaded the store answers 404 with a document that says so; without its code it says nothing."""
    weather = Always("short")
    with (
        Bucket(object_store) as bucket,
        WeatheredServer(gateway(object_store), weather) as server,
        closing(
            Objects(server.url, object_store.key_id, object_store.app_key, bucket.name, object_store.region)
        ) as objects,
    ):
        with pytest.raises(Retry):
            list(unfinished(objects, ""))
        weather.fault = None
        assert list(unfinished(objects, "")) == []
