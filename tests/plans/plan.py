"""A plan as EXPLAIN ANALYZE reports it, and what may be asked of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


class Plan:
    """A plan that ran."""

    def __init__(self, root: dict[str, Any], *, compiled: bool = False) -> None:
        self.root = root
        self.compiled = compiled
        self.nodes = list(self._walk(root))

    def _walk(self, node: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield node
        for child in node.get("Plans", []):
            yield from self._walk(child)

    def __str__(self) -> str:
        return "\n" + "\n".join(self._lines(self.root, ""))

    def _lines(self, node: dict[str, Any], indent: str) -> Iterator[str]:
        names = " ".join(
            str(node[key]) for key in ("Node Type", "Index Name", "Relation Name", "CTE Name") if key in node
        )
        detail = " ".join(f"[{key}: {node[key]}]" for key in ("Index Cond", "Filter", "Sort Key") if key in node)
        yield f"{indent}{names} rows={node['Actual Rows']:g} loops={node['Actual Loops']} pages={_pages(node)} {detail}"
        for child in node.get("Plans", []):
            yield from self._lines(child, indent + "  ")

    @property
    def pages(self) -> int:
        """Pages touched; one that is touched twice counts twice."""
        # What a statement inserts beside its answer runs when that is finished, and is not among the root's.
        return _pages(self.root) + sum(_pages(node) for node in self.nodes if node.get("Operation") == "Insert")

    @property
    def cost(self) -> float:
        """What the planner thinks of it."""
        return float(self.root["Total Cost"])

    @property
    def disabled(self) -> list[str]:
        """Ways that the session forbids and the planner found no other for: up to 17 each costs 1e10, since then it is told."""
        return [str(node["Node Type"]) for node in self.nodes if node.get("Disabled")]

    @property
    def changed(self) -> int:
        """Rows that were changed and returned."""
        return sum(int(node["Actual Rows"]) for node in self.nodes if node["Node Type"] == "ModifyTable")

    @property
    def scans(self) -> bool:
        """Whether the whole of the queue's table was scanned."""
        return any(node["Node Type"] == "Seq Scan" and node["Relation Name"] == "jobs" for node in self.nodes)

    @property
    def sorts(self) -> bool:
        return any("Sort" in node["Node Type"] for node in self.nodes)

    @property
    def indexes(self) -> set[str]:
        return {str(node["Index Name"]) for node in self.nodes if "Index Name" in node}

    def pages_of(self, index: str) -> int:
        return sum(_pages(node) for node in self.nodes if node.get("Index Name") == index)


def _pages(node: dict[str, Any]) -> int:
    return int(node["Shared Hit Blocks"] + node["Shared Read Blocks"])
