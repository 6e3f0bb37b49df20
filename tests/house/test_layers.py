"""The rules of the architecture: imports point one way, content knows only the surface, the command line is quick."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PACKAGE = REPOSITORY / "nsbench"
LAYERS = [  # a module may import from its own layer and from those above it in this list
    {"types", "errors", "files", "progress", "randomness"},
    {"registry", "provenance", "statistics", "models", "corruptions"},
    {"results", "data", "attacks", "nullspace"},
    {"training", "shapes10", "health", "leaderboard"},
    {"making"},
    {"run"},
    {"report", "regression", "submission", "laboratory"},
    {"cli"},
    {"__main__", "__init__"},
]
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}
MODULES = sorted(PACKAGE.rglob("*.py"))


def part_of(path: Path) -> str:
    """The top-level part of nsbench that a file belongs to."""
    relative = path.relative_to(PACKAGE)
    return relative.parts[0].removesuffix(".py")


def imported_parts(path: Path) -> set[str]:
    """Parts of nsbench that a file imports, at its top or inside functions, types aside."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "nsbench":
            below = node.module.split(".")[1:]
            found |= {below[0]} if below else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("nsbench.")}
    return found & set(RANK)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path: Path) -> None:
    own = part_of(path)
    assert own in RANK, f"{own} has no layer: add it to LAYERS"
    if own == "__init__":
        return
    wrong = {part for part in imported_parts(path) if RANK[part] > RANK[own]}
    assert not wrong, f"{path.name} is in layer {RANK[own]} and imports {wrong} from a later one"


@pytest.mark.parametrize("folder", ["suites", "baselines"])
def test_content_imports_only_the_surface(folder: str) -> None:
    for path in (REPOSITORY / folder).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert node.module in ("__future__", "nsbench"), f"{path.name} imports {node.module}"
            if isinstance(node, ast.Import):
                assert {alias.name for alias in node.names} <= {"nsbench"}, f"{path.name} reaches into the engine"


@pytest.mark.parametrize("arguments", [["--help"], ["list"], ["run", "--help"], ["list", "recipes"]])
def test_quick_commands_do_not_import_torch(arguments: list[str]) -> None:
    code = (
        f"import sys; sys.argv = ['nsbench', *{arguments!r}]\n"
        "from nsbench.cli import main\n"
        "try: main()\n"
        "except SystemExit as done: assert not done.code, done.code\n"
        "assert 'torch' not in sys.modules, 'torch was imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=REPOSITORY)


def test_engine_names_no_suite_or_method() -> None:
    """The engine knows no particular suite or method: their names stand in content files alone."""
    words = {path.stem for path in (REPOSITORY / "suites").glob("imagenet_*.py")} | {"random_noise", "madry"}
    board = (PACKAGE / "leaderboard").glob("*.py")
    for path in (*(PACKAGE / "run").glob("*.py"), *(PACKAGE / "results").glob("*.py"), *board):
        assert not words & set(path.read_text().split()), path
