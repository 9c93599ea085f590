"""Processor time, bytes and likeness of this pipeline against sharp's two-pipeline way.

    python bench/media/cost.py [--rounds 5] [--pictures 8] [--output bench/results/media.json]

Each round runs both ways on every source, in random order, each in a process of its own: user and system seconds of
the process, less those of one that renders nothing, divided by the pictures rendered. The table shows medians. Needs
node and npm; sharp is installed into a cache folder once.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from bench.media import pictures, quality  # noqa: E402
from jobqueue.media import formats, variants  # noqa: E402

CPU_GOAL, BYTES_GOAL, SSIM_LOSS_GOAL = 0.55, 1.03, 0.01
VARIANTS = (("thumb", 400), ("display", 1600))


def ours(source: Path, repeats: int, prefix: str | None) -> None:
    """Render `source` as the worker does, `repeats` times; keep the last variants under `prefix`."""
    rendered: tuple[variants.Variant, ...] = ()
    for _ in range(repeats):
        found = formats.probe(source, formats.sniff(source), max_pixels=120_000_000)
        rendered = variants.render(source, found, checkpoint=lambda: None)
    for variant in rendered if prefix else ():
        Path(f"{prefix}-{variant.name}.webp").write_bytes(variant.data)


def processor_seconds(command: list[str]) -> float:
    """User and system seconds that running `command` took."""
    # One libvips thread a picture for both, so that neither is charged for threads that spin and wait.
    environment = {**os.environ, "VIPS_CONCURRENCY": "1"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def install_sharp(folder: Path) -> Path:
    """The reference script beside an installed sharp, in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "reference.mjs"):
        shutil.copy(HERE / "sharp" / name, folder / name)
    if not (folder / "node_modules" / "sharp").exists():
        npm = shutil.which("npm")
        if npm is None:
            raise SystemExit("npm is needed to install sharp")
        subprocess.run([npm, "install", "--no-package-lock", "--no-audit", "--no-fund"], cwd=folder, check=True)
    return folder / "reference.mjs"


def measure(rounds: int, repeats: int, folder: Path) -> dict[str, Any]:
    """CPU seconds a picture, bytes and likeness of both ways on every source."""
    reference = install_sharp(folder / "sharp")
    ways = {"ours": [sys.executable, str(HERE / "cost.py"), "--ours"], "sharp": ["node", str(reference)]}
    sources = {source.name: pictures.make(source, folder) for source in pictures.SOURCES}
    seconds: dict[tuple[str, str], list[float]] = {}
    for number in range(rounds):
        idle = {way: min(processor_seconds([*command, "-", "0"]) for _ in range(2)) for way, command in ways.items()}
        cells = [(name, way) for name in sources for way in ways]
        random.shuffle(cells)
        for name, way in cells:
            prefix = str(folder / f"out-{way}-{name}")
            total = processor_seconds([*ways[way], str(sources[name]), str(repeats), prefix])
            seconds.setdefault((name, way), []).append((total - idle[way]) / repeats)
        print(f"round {number + 1} of {rounds} done", file=sys.stderr)
    return {name: _row(name, path, seconds, folder) for name, path in sources.items()}


def _row(name: str, path: Path, seconds: dict[tuple[str, str], list[float]], folder: Path) -> dict[str, Any]:
    cpu = {way: statistics.median(seconds[name, way]) for way in ("ours", "sharp")}
    row: dict[str, Any] = {"cpu_seconds": cpu, "cpu_ratio": cpu["ours"] / cpu["sharp"], "rounds": {}, "variants": {}}
    row["rounds"] = {way: seconds[name, way] for way in cpu}
    sizes = {"ours": 0, "sharp": 0}
    for variant, longest in VARIANTS:
        expected = quality.gold(path, longest)
        for way in sizes:
            data = (folder / f"out-{way}-{name}-{variant}.webp").read_bytes()
            sizes[way] += len(data)
            row["variants"].setdefault(variant, {})[way] = {"bytes": len(data), **quality.compare(expected, data)}
    return {**row, "bytes": sizes, "bytes_ratio": sizes["ours"] / sizes["sharp"]}


def report(rows: dict[str, Any]) -> bool:
    """Print the table; whether every goal is met."""
    print(
        f"{'source':10} {'ours s':>8} {'sharp s':>8} {'cpu':>6} {'bytes':>6}   SSIM display (ours/sharp)  thumb (ours/sharp)"
    )
    good = True
    for name, row in rows.items():
        scores = {v: {way: row["variants"][v][way]["ssim"] for way in ("ours", "sharp")} for v, _ in VARIANTS}
        met = (
            row["cpu_ratio"] <= CPU_GOAL
            and row["bytes_ratio"] <= BYTES_GOAL
            and all(score["ours"] >= score["sharp"] - SSIM_LOSS_GOAL for score in scores.values())
        )
        good = good and met
        likeness = "        ".join(f"{scores[v]['ours']:.4f} / {scores[v]['sharp']:.4f}" for v in ("display", "thumb"))
        cpu = row["cpu_seconds"]
        print(
            f"{name:10} {cpu['ours']:8.3f} {cpu['sharp']:8.3f} {row['cpu_ratio']:6.3f} {row['bytes_ratio']:6.3f}   {likeness}"
            f"   {'met' if met else 'MISSED'}"
        )
    print(f"goals: cpu <= {CPU_GOAL}, bytes <= {BYTES_GOAL}, SSIM within {SSIM_LOSS_GOAL} of sharp's")
    return good


def main() -> int:
    """Run the comparison, print it and write it to a file; 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pictures", type=int, default=8, help="pictures rendered in one process")
    parser.add_argument("--cache", type=Path, default=pictures.CACHE)
    parser.add_argument("--output", type=Path, default=ROOT / "bench" / "results" / "media.json")
    options = parser.parse_args()
    rows = measure(options.rounds, options.pictures, options.cache)
    good = report(rows)
    machine = {"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    written = {"when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), **machine, "sources": rows}
    options.output.write_text(json.dumps(written, indent=2) + "\n")
    print(f"written to {options.output}")
    return 0 if good else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["--ours"]:
        ours(Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4] if len(sys.argv) > 4 else None)
    else:
        raise SystemExit(main())
