"""One name, one thing: no class has its name twice in src/, and a module's name says what it holds without its package."""

from __future__ import annotations

import ast
from collections import defaultdict
from typing import TYPE_CHECKING

from tests.structure.helpers import SRC, modules

if TYPE_CHECKING:
    from collections.abc import Iterable

# Names of classes that stand in two modules, each with its reason.
CLASSES_OF_ONE_NAME: dict[str, str] = {}

# Names of modules that two packages have, each with its reason.
MODULES_OF_ONE_NAME = {
    "__init__": "Python asks for this name in every package",
    "worker": "cli/worker.py is named after its command, as all modules of commands are; kernel/worker.py after its class",
}

# Words that a module of any content could have as its name.
VAGUE = frozenset({
    "base", "client", "common", "core", "data", "handler", "helper", "impl", "info", "interface", "item",
    "lib", "library", "main", "manager", "misc", "model", "module", "object", "other", "process", "processor",
    "service", "shared", "stuff", "system", "thing", "tool", "type", "util", "utility", "various", "wrapper",
})  # fmt: skip

# Modules whose name is a vague word all the same, each with its reason.
VAGUE_ON_PURPOSE = {
    "main": "cli/main.py is where the command line begins, as __main__.py says and pyproject.toml's entry point",
    "objects": "storage/objects.py holds objects, which is what an S3 store calls what it stores",
    "services": "services.py makes what the handlers share; it is the one place that knows all of them",
}


def repeated(found: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Of pairs of a name and its place, the names with more than one place."""
    places: dict[str, list[str]] = defaultdict(list)
    for name, place in found:
        places[name].append(place)
    return {name: sorted(where) for name, where in places.items() if len(where) > 1}


def is_vague(name: str) -> bool:
    """Whether the name, in the singular or the plural, is one of the vague words."""
    return name.lower() in VAGUE or name.lower().removesuffix("s") in VAGUE


def module_names() -> list[tuple[str, str]]:
    """Every module of src/ by its own name, with its file."""
    return [(module.path.stem, str(module.path.relative_to(SRC))) for module in modules().values()]


def class_names() -> list[tuple[str, str]]:
    """Every class of src/, at whatever depth, with its file."""
    return [
        (node.name, str(module.path.relative_to(SRC)))
        for module in modules().values()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef)
    ]


def test_no_class_has_its_name_in_two_modules() -> None:
    found = repeated(set(class_names()))

    assert {name: where for name, where in found.items() if name not in CLASSES_OF_ONE_NAME} == {}
    assert [name for name in CLASSES_OF_ONE_NAME if name not in found] == [], "an exception that is none any more"


def test_no_module_has_its_name_in_two_packages() -> None:
    found = repeated(module_names())

    assert {name: where for name, where in found.items() if name not in MODULES_OF_ONE_NAME} == {}
    assert [name for name in MODULES_OF_ONE_NAME if name not in found] == [], "an exception that is none any more"


def test_no_module_has_a_name_that_could_be_any_modules() -> None:
    found = {name: where for name, where in module_names() if is_vague(name)}

    assert {name: where for name, where in found.items() if name not in VAGUE_ON_PURPOSE} == {}
    assert [name for name in VAGUE_ON_PURPOSE if name not in found] == [], "an exception that is none any more"


def test_a_name_that_two_have_and_a_vague_one_are_seen() -> None:
    assert repeated([("Plan", "a.py"), ("Plan", "b.py"), ("Tick", "a.py")]) == {"Plan": ["a.py", "b.py"]}
    assert is_vague("utils")
    assert is_vague("Helpers")
    assert not is_vague("origin_client")
