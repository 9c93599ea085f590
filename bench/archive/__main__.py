"""Measures archives: `python -m bench.archive [--files N] [--rounds N] [--sink] [--long]`.

Memory: a real worker's peak over what it uses idle, on 1 GiB and 6 GiB, known and unknown beforehand. Throughput: beside a
temporary file sent by boto3, and, through a network with 50 ms and 30 MB/s a connection, beside plain streams.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from jobqueue.demo.embedded_postgres import Postgres
from jobqueue.demo.launch import free_port
from jobqueue.demo.object_store import ObjectStore
from jobqueue.migrations import migrate

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1 << 20
FILE_BYTES = 5 * MIB
DISTINCT = 40
ROUND_TRIP = 0.05
RATE = 30e6


@contextmanager
def process(
    *arguments: object, env: dict[str, str] | None = None, ready: bool = True
) -> Iterator[subprocess.Popen[str]]:
    """A Python process that lives as long as the block."""
    command = [sys.executable, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as child:
        try:
            if ready:
                assert child.stdout is not None
                assert child.stdout.readline().strip() == "ready"
            yield child
        finally:
            child.kill()


class Bench:
    """Servers, a database with projects, and a folder of files."""

    def __init__(self, stack: ExitStack) -> None:
        self.stack = stack
        self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-archive-")))
        # Readable for the unprivileged user that the database runs as.
        self.folder.chmod(0o755)
        files = self.folder / "files"
        files.mkdir()
        self.crcs = []
        for number in range(DISTINCT):
            data = random.Random(number).randbytes(FILE_BYTES)
            (files / str(number)).write_bytes(data)
            self.crcs.append(zlib.crc32(data))
        self.postgres = Postgres(self.folder / "postgres")
        stack.callback(self.postgres.close)
        self.postgres.start()
        self.dsn = self.postgres.create_database("bench")
        migrate(self.dsn)
        self.db = stack.enter_context(psycopg.connect(self.dsn, autocommit=True))
        self.origin = free_port()
        stack.enter_context(process("-m", "bench.archive.servers", "origin", self.origin, files))

    def rclone(self) -> dict[str, str]:
        """A real store."""
        store = ObjectStore(self.folder / "store")
        self.stack.callback(store.stop)
        store.start()
        return {
            "endpoint": store.endpoint, "key_id": store.key_id, "app_key": store.app_key, "bucket": store.bucket,
            "region": store.region,
        }  # fmt: skip

    def sink(self, keep: Path | None = None) -> dict[str, str]:
        """A store that keeps nothing, or the last object as a file."""
        port = free_port()
        self.stack.enter_context(
            process("-m", "bench.archive.servers", "sink", port, *([] if keep is None else [keep]))
        )
        return {
            "endpoint": f"http://127.0.0.1:{port}", "key_id": "k", "app_key": "secret-key", "bucket": "bench",
            "region": "us-east-1",
        }  # fmt: skip

    def distant(self, port: int) -> int:
        """The port of a proxy before `port`."""
        listen = free_port()
        self.stack.enter_context(process("-m", "bench.archive.proxy", listen, port, ROUND_TRIP, RATE))
        return listen

    def project(self, count: int, *, known: bool) -> Any:
        """A project of `count` files."""
        (project,) = self.db.execute("INSERT INTO projects (name) VALUES ('bench') RETURNING id").fetchone() or ()
        rows = [
            (
                project,
                str(n),
                f"{n:05}.jpg",
                FILE_BYTES if known else None,
                self.crcs[n % DISTINCT] if known else None,
                n,
            )
            for n in range(count)
        ]
        with self.db.cursor() as cursor, cursor.copy(
            "COPY project_media (project_id, source_key, filename, measured_bytes, measured_crc32, bytes) FROM STDIN"
        ) as copy:  # fmt: skip
            for row in rows:
                copy.write_row(row)
        self.db.execute("UPDATE project_media SET bytes = NULL WHERE project_id = %s", [project])
        return project

    @contextmanager
    def worker(self, origin: int, store: dict[str, str]) -> Iterator[int]:
        """A real worker on the queue of archives; gives its process id."""
        environment = {
            **{
                name: value
                for name, value in os.environ.items()
                if name in ("PATH", "HOME", "PYTHONPATH", "VIRTUAL_ENV")
            },
            "DATABASE_URL": self.dsn,
            "RAID_PUB_ENDPOINT": f"http://127.0.0.1:{origin}/",
            "RAID_PUBLISHER_SECRET": "origin-secret",
            "B2_ENDPOINT": store["endpoint"],
            "B2_KEY_ID": store["key_id"],
            "B2_APP_KEY": store["app_key"],
            "B2_BUCKET": store["bucket"],
            "B2_REGION": store["region"],
            "CDN_BASE_URL": "http://127.0.0.1",
            "PORT": "0",
            "MAX_MEDIA_FILES_PER_ZIP": "1000000",
            "MAX_ZIP_SIZE_BYTES": "1TiB",
        }
        command = ("-m", "jobqueue", "worker", "--queue", "download_artifacts")
        with process(*command, env=environment, ready=False) as child:
            assert child.stdout is not None
            while "worker_started" not in (line := child.stdout.readline()):
                assert line, "the worker ended"
            time.sleep(1.0)
            yield child.pid

    def build(self, project: Any) -> tuple[float, int]:
        """Have an archive built; returns its seconds and its size."""
        (artifact,) = (
            self.db.execute(
                "INSERT INTO download_artifacts (project_id) VALUES (%s) RETURNING id", [project]
            ).fetchone()
            or ()
        )
        query = """SELECT status, extract(epoch FROM completed_at - started_at)::float8, size_bytes, error_message
                   FROM download_artifacts WHERE id = %s"""
        while True:
            status, seconds, size, error = self.db.execute(query, [artifact]).fetchone() or ()
            if status == "READY":
                return seconds, size
            assert not error, error
            time.sleep(0.05)

    def plain(self, way: str, origin: int, store: dict[str, str], count: int) -> dict[str, float]:
        """One of the plainer ways, in a process of its own."""
        command = [
            sys.executable, "-m", "bench.archive.plain", way, f"http://127.0.0.1:{origin}/", json.dumps(store), str(count),
        ]  # fmt: skip
        found: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        return found


def peak_mib(pid: int, name: str = "VmHWM") -> float:
    """A process's memory in MiB: its peak, or with VmRSS what it uses now."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith(name))) / 1024


def memory(bench: Bench) -> None:
    """Peak memory over idle."""
    print("\nMemory of a worker, MiB over idle (a new worker each time)")
    for label, files, known in [("1 GiB known", 205, True), ("1 GiB unknown", 205, False), ("6 GiB known", 1229, True)]:
        with bench.worker(bench.origin, bench.sink()) as pid:
            idle = peak_mib(pid, "VmRSS")
            seconds, size = bench.build(bench.project(files, known=known))
            print(
                f"  {label:14} idle {idle:5.0f}  peak +{peak_mib(pid) - idle:4.0f}   {size / seconds / 1e6:5.0f} MB/s"
            )


def near(bench: Bench, store: dict[str, str], name: str, files: int, rounds: int) -> None:
    """Beside a temporary file, without latency."""
    ours, theirs = [], []
    with bench.worker(bench.origin, store):
        for _ in range(rounds):
            seconds, size = bench.build(bench.project(files, known=True))
            ours.append(size / seconds / 1e6)
            found = bench.plain("file", bench.origin, store, files)
            theirs.append(files * FILE_BYTES / found["seconds"] / 1e6)
    best, other = statistics.median(ours), statistics.median(theirs)
    print(
        f"  {name:8} ours {best:5.0f} MB/s   temporary file {other:5.0f} MB/s   ratio {best / other:.2f}   {ours} {theirs}"
    )


def far(bench: Bench, store: dict[str, str], files: int, rounds: int) -> None:
    """Beside plain streams, through a distant network."""
    origin = bench.distant(bench.origin)
    store = {**store, "endpoint": f"http://127.0.0.1:{bench.distant(int(store['endpoint'].rpartition(':')[2]))}"}
    found: dict[str, list[float]] = {"ours": [], "first": [], "stream": [], "stream4": [], "file": []}
    with bench.worker(origin, store):
        for _ in range(rounds):
            for kind, known in (("ours", True), ("first", False)):
                seconds, size = bench.build(bench.project(files, known=known))
                found[kind].append(size / seconds / 1e6)
            for way in ("stream", "stream4", "file"):
                found[way].append(files * FILE_BYTES / bench.plain(way, origin, store, files)["seconds"] / 1e6)
    rate = {kind: statistics.median(values) for kind, values in found.items()}
    print(f"  ours {rate['ours']:.0f} MB/s (first time {rate['first']:.0f})")
    for way, label in (
        ("stream", "one stream, part after part"),
        ("stream4", "one stream, 4 parts in flight"),
        ("file", "temporary file"),
    ):
        print(f"  {label:30} {rate[way]:5.0f} MB/s   ratio {rate['ours'] / rate[way]:.2f}")


def long_and_many(bench: Bench) -> None:
    """6 GiB, one file of 5 GiB and 70,000 small ones through a real worker, read back by zipfile."""
    print("\nThrough a real worker and read back by zipfile")
    big = bench.folder / "big"
    small = bench.folder / "small"
    for folder in (big, small):
        folder.mkdir()
    with (big / "0").open("wb") as file:
        file.truncate(5 << 30)
    (small / "0").write_bytes(b"x" * 10_000)
    for label, count, folder in (
        ("6 GiB in 1,229 files", 1229, bench.folder / "files"),
        ("one file of 5 GiB", 1, big),
        ("70,000 files of 10 kB", 70_000, small),
    ):
        origin = free_port()
        bench.stack.enter_context(process("-m", "bench.archive.servers", "origin", origin, folder))
        keep = bench.folder / "kept"
        keep.mkdir()
        with bench.worker(origin, bench.sink(keep)) as pid:
            idle = peak_mib(pid, "VmRSS")
            seconds, size = bench.build(bench.project(count, known=folder == bench.folder / "files"))
            peak = peak_mib(pid) - idle
        with zipfile.ZipFile(keep / "object") as archive:
            assert archive.testzip() is None
            assert len(archive.namelist()) == count
        print(f"  {label}: every CRC right; {size / seconds / 1e6:.0f} MB/s, {seconds:.0f} s, peak +{peak:.0f} MiB")
        shutil.rmtree(keep)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.archive")
    parser.add_argument("--files", type=int, default=205, help="files of 5 MiB in one archive")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["memory", "near", "far", "long"])
    options = parser.parse_args()
    with ExitStack() as stack:
        bench = Bench(stack)
        if options.only in (None, "memory"):
            memory(bench)
        if options.only in (None, "near"):
            print(
                f"\nThroughput without latency, {options.files * FILE_BYTES / MIB:.0f} MiB, medians of {options.rounds}"
            )
            near(bench, bench.rclone(), "rclone", options.files, options.rounds)
            near(bench, bench.sink(), "sink", options.files, options.rounds)
        if options.only in (None, "far"):
            print(
                f"\nThrough {ROUND_TRIP * 1000:.0f} ms and {RATE / 1e6:.0f} MB/s a connection, {options.files // 4} files"
            )
            far(bench, bench.sink(), options.files // 4, options.rounds)
        if options.only in (None, "long"):
            long_and_many(bench)


if __name__ == "__main__":
    main()
