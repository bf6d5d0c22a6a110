"""The import graph of `vlad`: its rooms from the bottom up, the arrows between them, circles, and arrows that point up.

    python eval/bench/imports.py

Every import counts: those inside functions and those for the type checker as well. `tests/unit/test_imports.py` fails on a circle (of files
or of rooms) and on an arrow that points up.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[2]
# From the bottom up; a room may import those before it. A file at the top of the package is a room of its own.
ROOMS = (
    "errors",
    "untrusted",
    "disk",
    "metrics",
    "pictures",
    "prompts",
    "backbones",
    "scoring",
    "config",
    "references",
    "visualization",
    "prediction",
    "persistence",
    "history",
    "streams",
    "monitor",
    "vlm",
    "deploy",
    "core",
    "detector",
    "together",
    "output",
    "formats",
    "synthetic",
    "training",
    "vlad",
    "evaluation",
    "cluster",
    "app",
    "serve",
    "cli",
    "__main__",
)


def read_graph(root: Path = ROOT) -> dict[str, set[str]]:
    """For each module of the package those that it imports. The package itself counts where more than its version is taken from it."""
    files = {
        ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path for path in (root / "vlad").rglob("*.py")
    }
    graph: dict[str, set[str]] = {}
    for module, path in files.items():
        graph[module] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [f"{node.module}.{alias.name}" for alias in node.names if alias.name != "__version__"]
            for name in names:
                target = name
                while target and target not in files:
                    target = target.rpartition(".")[0]
                if target and target != module:
                    graph[module].add(target)
    return graph


def room_of(module: str) -> str:
    """The room that a module lies in."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "vlad"


def by_room(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """The same between rooms."""
    rooms: dict[str, set[str]] = defaultdict(set)
    for module, targets in graph.items():
        rooms[room_of(module)] |= {room_of(target) for target in targets} - {room_of(module)}
    return dict(rooms)


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of nodes that reach each other (strongly connected components of more than one)."""

    def reach(start: str) -> set[str]:
        seen: set[str] = set()
        todo = [start]
        while todo:
            for target in graph.get(todo.pop(), set()):
                if target not in seen:
                    seen.add(target)
                    todo.append(target)
        return seen

    reached = {node: reach(node) for node in graph}
    groups = {tuple(sorted(other for other in reached[node] if node in reached.get(other, ()))) for node in graph if node in reached[node]}
    return [list(group) for group in sorted(groups)]


def upward(rooms: dict[str, set[str]]) -> list[tuple[str, str]]:
    """Arrows that point to a room above."""
    return [(room, target) for room, targets in rooms.items() for target in sorted(targets) if ROOMS.index(target) > ROOMS.index(room)]


def main() -> None:
    graph = read_graph()
    rooms = by_room(graph)
    for room in ROOMS:
        if room in rooms:
            print(f"{room:14} -> {', '.join(sorted(rooms[room], key=ROOMS.index)) or '-'}")
    print(
        f"{len(graph)} files, {len(rooms)} rooms, {sum(map(len, rooms.values()))} arrows between rooms, "
        f"{len(circles(graph))} circles of files, {len(circles(rooms))} of rooms, {len(upward(rooms))} arrows up"
    )


if __name__ == "__main__":
    main()
