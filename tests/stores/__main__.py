"""A conformance run: what the product asks of an S3-compatible store, asked through the product's own code.

    B2_KEY_ID=... B2_APP_KEY=... python -m tests.stores ENDPOINT [--bucket jobqueue-conformance] [--region us-east-1]
    python -m tests.stores --published [NAME]

The first form runs on a store of yours. It makes the bucket if the key may, writes only below prefixes of its own, and
removes what it wrote; where the key may, it turns versions on in that bucket and suspends them again. Take a bucket that
holds nothing else. The second form installs the stores that docs/reference/stores.md names in a temporary folder, and runs
on each. The exit code is 1 when a check found a fault of ours: a store may do what it likes, and we say so in words.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from tests.stores.checks import Store
from tests.stores.published import PUBLISHED, installed
from tests.stores.run import Finding, run, table

if TYPE_CHECKING:
    from collections.abc import Iterator


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.stores", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("endpoint", nargs="?", help="URL of the store, without the bucket")
    parser.add_argument("--bucket", default="jobqueue-conformance")
    parser.add_argument("--region", default="us-east-1")
    parser.add_argument("--published", nargs="?", const="", metavar="NAME", help="stores of the package registries")
    given = parser.parse_args()
    if given.published is not None:
        return _published(given.published)
    if given.endpoint is None:
        parser.error("an endpoint is missing")
    keys = os.environ.get("B2_KEY_ID", ""), os.environ.get("B2_APP_KEY", "")
    if not all(keys):
        parser.error("B2_KEY_ID and B2_APP_KEY must be set")
    return int(any(finding.fault for finding in _told(Store(given.endpoint, *keys, given.bucket, given.region))))


def _published(name: str) -> int:
    found: list[tuple[str, Finding]] = []
    for store in PUBLISHED:
        if name in store.name:
            print(f"\n{store.label} ({store.source})", flush=True)
            with installed(store) as served:
                found += [(store.label, finding) for finding in _told(served)]
    print(f"\n{table(found)}")
    return int(any(finding.fault for _, finding in found))


def _told(store: Store) -> Iterator[Finding]:
    for finding in run(store):
        print(f"{finding.words}: {'FAULT ' if finding.fault else ''}{finding.said}", flush=True)
        yield finding


if __name__ == "__main__":
    sys.exit(main())
