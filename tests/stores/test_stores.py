"""The conformance run, on the stores at hand and on those of the package registries."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.stores import run as runs
from tests.stores.checks import Store
from tests.stores.published import PUBLISHED, installed
from tests.stores.run import AS_ASKED, Finding, run, table
from tests.support.s3 import strict_store

from jobqueue.errors import Permanent

if TYPE_CHECKING:
    from jobqueue.demo.object_store import ObjectStore

DOCUMENT = Path(__file__).parents[2] / "docs" / "reference" / "stores.md"


@pytest.mark.extended
def test_the_stores_of_the_other_tests_do_what_is_asked(object_store: ObjectStore) -> None:
    store = Store(object_store.endpoint, object_store.key_id, object_store.app_key, "conformance", object_store.region)
    assert [finding for finding in run(store) if finding.fault] == []
    with strict_store() as endpoint:
        assert [
            finding for finding in run(Store(endpoint, "k", "s", "conformance", "us-east-1")) if finding.fault
        ] == []


@pytest.mark.registries
def test_published_stores_differ_as_the_documentation_says() -> None:
    found: list[tuple[str, Finding]] = []
    for store in PUBLISHED:
        with installed(store) as served:
            found += [(store.label, finding) for finding in run(served)]
    assert [finding for _, finding in found if finding.fault] == []
    assert table(found) in DOCUMENT.read_text()


def test_the_documentation_names_the_published_stores() -> None:
    text = DOCUMENT.read_text()
    for store in PUBLISHED:
        assert f"| {store.name} |" in text
        assert store.version in text


def test_a_fault_of_ours_is_told_from_what_a_store_does(
    object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_: Store) -> str:
        raise Permanent("the store did not accept it")

    def broken(_: Store) -> str:
        raise KeyError("ETag")

    checks = {"good": lambda _: None, "differs": lambda _: "keeps none", "refused": refused, "broken": broken}
    monkeypatch.setattr(runs, "CHECKS", checks)
    monkeypatch.setattr(runs, "ORDERED", list(checks))
    store = Store(object_store.endpoint, object_store.key_id, object_store.app_key, "pictures", object_store.region)
    found = list(run(store, checks))
    assert found[0] == Finding("good", AS_ASKED)
    assert found[1] == Finding("differs", "keeps none")
    assert found[2] == Finding("refused", "the job fails: the store did not accept it")
    assert found[3].fault
    assert "KeyError" in found[3].said
    shown = table([("one 1.0", found[1]), ("one 1.1", found[1]), ("one 1.1", found[0])])
    assert shown.splitlines()[2:] == ["| differs | one 1.0, one 1.1 | keeps none |"]
