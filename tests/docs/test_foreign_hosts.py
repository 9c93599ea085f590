"""Hosts in other languages enqueue as their pages say, with the drivers that their programs use."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

if TYPE_CHECKING:
    from tests.docs.page import Reader

pytestmark = pytest.mark.registries

NPM, RUBY = shutil.which("npm"), shutil.which("ruby")


def run(reader: Reader, *command: str) -> str:
    """What a command in the reader's folder prints."""
    done = subprocess.run(
        command, cwd=reader.folder, env=reader.environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def jobs(reader: Reader) -> list[Any]:
    with psycopg.connect(reader.dsn) as connection:
        return connection.execute("SELECT kind, payload, priority, run_after > now() FROM jobs ORDER BY id").fetchall()


@pytest.fixture(autouse=True)
def _orders(database: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute(
            "CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer text NOT NULL)"
        )


@pytest.mark.skipif(NPM is None, reason="there is no Node")
def test_node(reader: Reader) -> None:
    run(reader, "npm", "install", "--silent", "--no-fund", "--no-audit", "pg@8")
    reader.read("docs/how-to/node.md")
    script = (
        'import { placeOrder, pool } from "./orders.mjs"; import { statusOf } from "./status.mjs";'
        'const placed = await placeOrder("Ada"); const refused = await placeOrder(null).catch((error) => error.code);'
        "console.log(JSON.stringify([placed, refused, await statusOf(placed.job)])); await pool.end();"
    )

    printed = run(reader, "node", "--input-type=module", "--eval", script)

    assert json.loads(printed) == [{"order": "1", "job": "1"}, "23502", {"status": "pending", "error_message": None}]
    run(reader, "node", "later.mjs")
    assert jobs(reader) == [
        ("receipt", {"order_id": 1}, 5, False),
        ("reminder", {"order_id": 1}, 5, True),
        ("alarm", {}, 9, False),
    ]


@pytest.mark.skipif(RUBY is None, reason="there is no Ruby")
def test_ruby(reader: Reader) -> None:
    reader.read("docs/how-to/ruby.md")

    assert jobs(reader) == [
        ("receipt", {"order_id": 1}, 5, False),
        ("reminder", {}, 5, True),
        ("alarm", {}, 9, False),
    ]
    assert run(reader, "ruby", "records.rb") == "pending\n"
    assert jobs(reader)[-1] == ("receipt", {"order_id": 2}, 5, False)
