"""Peak memory of picture work in several threads, and how near the estimates of memory are.

    python bench/media/memory.py                  3 threads over large photographs, then 2,000 mixed pictures
    python bench/media/memory.py --estimates      estimate beside measured growth, each kind in a process of its own

The first form is the worker's own path (sniff, probe, admission to the budget of a 512 MiB container, render) and fails
when the process's peak resident size reaches 512 MiB or grows over the mixed pictures. Linux only: reads /proc.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

import pyvips  # noqa: E402

from bench.media import pictures  # noqa: E402
from jobqueue.media import (  # noqa: E402
    formats,
    memory_budget,
    variants,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MIB = 1 << 20
LIMIT = 512 * MIB
THREADS = 3
MOST_PIXELS = 120_000_000


def status(field: str) -> int:
    """Bytes of a field of /proc/self/status: VmRSS (resident now), VmHWM (its peak)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise KeyError(field)


def publish(path: Path, budget: memory_budget.MemoryBudget) -> None:
    """The worker's way from a file to its variants."""
    found = formats.probe(path, formats.sniff(path), max_pixels=MOST_PIXELS)
    with budget.admit(found.memory_bytes, checkpoint=lambda: None):
        variants.render(path, found, checkpoint=lambda: None)


def mixed(folder: Path) -> list[Path]:
    """Small pictures of many kinds, made once."""
    folder = folder / "mixed"
    folder.mkdir(parents=True, exist_ok=True)
    image = pictures.photograph(2000, 1500)
    saves: dict[str, dict[str, Any]] = {
        "a.jpg": {"Q": 90},
        "progressive.jpg": {"Q": 90, "interlace": True},
        "a.png": {"compression": 1},
        "interlaced.png": {"compression": 1, "interlace": True},
        "a.tif": {"compression": "lzw"},
        "a.webp": {"effort": 0},
        "lossless.webp": {"effort": 0, "lossless": True},
        "a.gif": {"effort": 1},
    }
    pixels: pyvips.Image | None = None
    for name, options in saves.items():
        if not (folder / name).exists():
            pixels = pixels or image.copy_memory()
            pixels.write_to_file(str(folder / name), **options)
    return sorted(folder.iterdir())


def run(paths: Iterator[Path], budget: memory_budget.MemoryBudget, each: Callable[[int], None]) -> None:
    """Publish all of `paths` in the worker's number of threads, calling `each` with the count done."""
    lock = threading.Lock()
    done = 0

    def one(path: Path) -> None:
        nonlocal done
        publish(path, budget)
        with lock:
            done += 1
            each(done)

    with ThreadPoolExecutor(THREADS) as pool:
        for result in [pool.submit(one, path) for path in paths]:
            result.result()


def load_test(folder: Path, count: int) -> dict[str, Any]:
    """Peak resident size on large photographs, and the resident size along `count` mixed pictures. Bytes."""
    import boto3  # noqa: F401, PLC0415 - the worker's own imports are part of what it holds
    import psycopg  # noqa: F401, PLC0415
    import uvicorn  # noqa: F401, PLC0415

    by_name = {source.name: source for source in (*pictures.SOURCES, pictures.PROGRESSIVE)}
    large = {name: pictures.make(by_name[name], folder) for name in ("48mp.jpg", "24mp-progressive.jpg")}
    budget = memory_budget.MemoryBudget(LIMIT - memory_budget.PROCESS_BYTES)
    result: dict[str, Any] = {"imported": status("VmRSS"), "peaks": {}}
    for name, path in large.items():
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
        run(islice(cycle([path]), 12), budget, lambda _: None)
        result["peaks"][name] = status("VmHWM")
    small = [*mixed(folder), pictures.make(by_name["12mp.jpg"], folder)]
    Path("/proc/self/clear_refs").write_text("5")
    resident: dict[int, int] = {}

    def note(done: int) -> None:
        if done in {count // 40, count // 4, count // 2, count * 3 // 4, count}:
            resident[done] = status("VmRSS")

    run(islice(cycle(small), count), budget, note)
    return {**result, "mixed_peak": status("VmHWM"), "mixed_resident": resident}


def estimates(folder: Path) -> None:
    """Print, for every file of `folder`, the estimate and the measured growth of the peak."""
    for path in sorted(file for file in folder.rglob("*") if file.is_file()):
        command = [sys.executable, str(HERE / "memory.py"), "--one", str(path)]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        if answer.returncode:
            continue
        found = json.loads(answer.stdout)
        print(
            f"{path.name:26} {found['estimate'] / MIB:7.0f} MiB estimated {found['grown'] / MIB:7.0f} MiB measured"
            f"  {found['estimate'] / found['grown']:5.2f}"
        )


def one(path: Path) -> None:
    """Render `path` in this fresh process and print how much its peak grew."""
    pyvips.Image.black(64, 64, bands=3).copy(interpretation="srgb").webpsave_buffer()
    before = status("VmRSS")
    found = formats.probe(path, formats.sniff(path), max_pixels=MOST_PIXELS)
    variants.render(path, found)
    print(json.dumps({"estimate": found.memory_bytes, "grown": status("VmHWM") - before}))


def main() -> int:
    """Run the wanted form; 1 when a limit is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--estimates", action="store_true")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, default=2000, help="mixed pictures")
    parser.add_argument("--cache", type=Path, default=pictures.CACHE)
    options = parser.parse_args()
    if options.one:
        one(options.one)
        return 0
    if options.estimates:
        mixed(options.cache)
        for source in (*pictures.SOURCES, pictures.PROGRESSIVE):
            pictures.make(source, options.cache)
        estimates(options.cache)
        return 0
    started = time.monotonic()
    found = load_test(options.cache, options.count)
    print(f"imported: {found['imported'] / MIB:.0f} MiB")
    for name, peak in found["peaks"].items():
        print(f"{THREADS} threads, {name}: peak {peak / MIB:.0f} MiB")
    print(f"{options.count} mixed pictures: peak {found['mixed_peak'] / MIB:.0f} MiB, resident after")
    resident = found["mixed_resident"]
    print("  " + "  ".join(f"{done}: {size / MIB:.0f} MiB" for done, size in sorted(resident.items())))
    print(f"{time.monotonic() - started:.0f} s")
    peak = max(found["mixed_peak"], *found["peaks"].values())
    settled = resident[options.count // 4]
    flat = resident[options.count] <= 1.15 * settled + 8 * MIB
    print(
        f"peak {peak / MIB:.0f} MiB (limit {LIMIT / MIB:.0f}): {'met' if peak < LIMIT else 'MISSED'}; flat: {'met' if flat else 'MISSED'}"
    )
    return 0 if peak < LIMIT and flat else 1


if __name__ == "__main__":
    raise SystemExit(main())
