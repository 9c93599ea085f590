"""The source as data: which files there are, which modules, and which of them imports which."""

from __future__ import annotations

import ast
import subprocess
from configparser import ConfigParser
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]

SRC = ROOT / "src"


@cache
def project_files() -> tuple[Path, ...]:
    """Every file of the project, relative to its root: those that git tracks, and new ones that it does not ignore."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    found = {Path(name) for name in listed.stdout.split("\0") if name}
    return tuple(sorted(path for path in found if (ROOT / path).is_file()))


@dataclass(frozen=True, slots=True)
class Module:
    """One module of src/: its full name, its file, and what was parsed of it."""

    name: str
    path: Path
    tree: ast.Module


@cache
def modules() -> dict[str, Module]:
    """All modules of src/ by their full names."""
    found = {}
    for path in sorted(SRC.rglob("*.py")):
        parts = path.relative_to(SRC).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = Module(name, path, ast.parse(path.read_text()))
    return found


def imported_names(tree: ast.Module) -> set[str]:
    """Full names of everything that is imported anywhere in a module, also within functions and for types alone."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports name the whole path"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def package_names() -> list[str]:
    """The full names of all packages of src/."""
    return sorted(".".join(path.parent.relative_to(SRC).parts) for path in SRC.rglob("__init__.py"))


@cache
def arrows() -> dict[str, frozenset[str]]:
    """For each module of src/ the other modules of src/ that it imports."""
    known = modules()
    return {
        module.name: frozenset(
            target
            for name in imported_names(module.tree)
            if (target := _module_of(name, known)) is not None and target != module.name
        )
        for module in known.values()
    }


def _module_of(name: str, known: dict[str, Module]) -> str | None:
    """The module that an imported name is, or is defined in; None for other people's."""
    while name and name not in known:
        name = name.rpartition(".")[0]
    return name or None


@dataclass(frozen=True, slots=True)
class Floors:
    """The floors of .importlinter, from the top down; what stands on one floor is independent of its neighbours."""

    floors: tuple[tuple[str, ...], ...]

    def of(self, module: str) -> tuple[int, str] | None:
        """The number of a module's floor, 0 for the top, and its room there; None for a module without a floor."""
        for number, rooms in enumerate(self.floors):
            for room in rooms:
                if module == room or module.startswith(f"{room}."):
                    return number, room
        return None


@cache
def floors() -> Floors:
    """What the contract `layers` says. import-linter holds it too; there is no second list."""
    parser = ConfigParser()
    parser.read(ROOT / ".importlinter")
    lines = parser["importlinter:contract:layers"]["layers"].split("\n")
    return Floors(tuple(tuple(room.strip() for room in line.split("|")) for line in lines if line.strip()))


def forbidden_arrows(drawn: dict[str, frozenset[str]], order: Floors) -> list[str]:
    """Arrows that run up, or across a floor to another room, each as a sentence."""
    found = []
    for importer, targets in sorted(drawn.items()):
        for target in sorted(targets):
            start, end = order.of(importer), order.of(target)
            if start is None or end is None or start == end or start[0] < end[0]:
                continue
            way = "up to" if start[0] > end[0] else "across to"
            found.append(f"{importer} runs {way} {target}")
    return found


def circles(drawn: dict[str, frozenset[str]]) -> list[list[str]]:
    """Every set of modules that reach one another, largest first: none, where there is no circle of any size."""
    found = [group for group in _strongly_connected(drawn) if len(group) > 1]
    return sorted((sorted(group) for group in found), key=lambda group: (-len(group), group))


def packages(drawn: dict[str, frozenset[str]], parent: str) -> dict[str, frozenset[str]]:
    """The arrows between the children of `parent`, each with everything below it taken as one."""

    def child(module: str) -> str | None:
        prefix = f"{parent}."
        return prefix + module.removeprefix(prefix).split(".")[0] if module.startswith(prefix) else None

    result: dict[str, set[str]] = {}
    for importer, targets in drawn.items():
        here = child(importer)
        if here is not None:
            result.setdefault(here, set()).update(
                there for target in targets if (there := child(target)) is not None and there != here
            )
    return {here: frozenset(there) for here, there in result.items()}


def passed_over() -> set[tuple[str, str]]:
    """Arrows that .importlinter leaves out when it looks for circles between packages."""
    parser = ConfigParser()
    parser.read(ROOT / ".importlinter")
    lines = parser["importlinter:contract:circles"].get("ignore_imports", "").split("\n")
    pairs = [line.split("->") for line in lines if line.strip()]
    return {(importer.strip(), target.strip()) for importer, target in pairs}


def without(drawn: dict[str, frozenset[str]], left_out: set[tuple[str, str]]) -> dict[str, frozenset[str]]:
    """The arrows but for those left out."""
    return {
        importer: frozenset(target for target in targets if (importer, target) not in left_out)
        for importer, targets in drawn.items()
    }


def _strongly_connected(drawn: dict[str, frozenset[str]]) -> list[list[str]]:
    """Tarjan's algorithm; the graph is shallow enough for plain recursion."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    groups: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in drawn.get(node, frozenset()):
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            group = []
            while True:
                group.append(stack.pop())
                if group[-1] == node:
                    break
            groups.append(group)

    for node in sorted(drawn):
        if node not in index:
            visit(node)
    return groups
