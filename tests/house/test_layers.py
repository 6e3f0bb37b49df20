"""The rules of the architecture: imports point one way, content knows only the surface, the command line is quick."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PACKAGE = REPOSITORY / "nsbench"
LAYERS = [  # a module may import from its own layer and from those above it in this list
    {"types", "errors", "files", "progress", "randomness", "processes"},
    {"registry", "provenance", "statistics", "models", "corruptions"},
    {"results", "data", "attacks", "nullspace"},
    {"training", "shapes10", "health", "leaderboard"},
    {"making"},
    {"run"},
    {"report", "regression", "submission", "laboratory"},
    {"cli", "api"},
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
                assert node.module in ("__future__", "typing", "nsbench"), f"{path.name} imports {node.module}"
            if isinstance(node, ast.Import):
                assert {alias.name for alias in node.names} <= {"nsbench"}, f"{path.name} reaches into the engine"


@pytest.mark.parametrize(
    "arguments", [["--help"], ["list"], ["run", "--help"], ["list", "recipes"], ["list", "models", "--json"]]
)
def test_quick_commands_do_not_import_torch(arguments: list[str]) -> None:
    code = (
        f"import sys; sys.argv = ['nsbench', *{arguments!r}]\n"
        "from nsbench.cli import main\n"
        "try: main()\n"
        "except SystemExit as done: assert not done.code, done.code\n"
        "assert 'torch' not in sys.modules, 'torch was imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=REPOSITORY)


def test_a_page_imports_neither_torch_nor_pandas_nor_all_of_scipys_statistics(tmp_path: Path) -> None:
    """They take as long to import as a small board takes to read."""
    shown, out = REPOSITORY / "reports" / "showcase" / "held_out" / "results", tmp_path / "board.html"
    code = (
        f"import sys; sys.argv = ['nsbench', 'report', '--results', {str(shown)!r}, '--out', {str(out)!r}]\n"
        "from nsbench.cli import main\n"
        "try: main()\n"
        "except SystemExit as done: assert not done.code, done.code\n"
        "assert not {'torch', 'pandas', 'scipy.stats'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=REPOSITORY)
    assert out.stat().st_size


CONTENT = {path.stem for folder in ("suites", "baselines") for path in (REPOSITORY / folder).glob("*.py")}
SPLITS = {"clean", "stylized", "damagenet", "transfer"}  # names of data, which suites took over
ATTACKS = {path.stem for path in (PACKAGE / "attacks").glob("*.py")}  # the engine's own; suites are named after them
ALLOWED = {  # file -> names that it may hold, each with its reason
    "__init__.py": {"finetune"},  # the training loop, a function of the public surface
    "training/__init__.py": {"finetune"},
    "training/loop.py": {"finetune"},  # its own name, in its message
    "training/recipe.py": {"mixup", "randaugment"},  # fields of a recipe, which methods of these names set
    "training/views.py": {"mixup"},  # the same
    "training/negative.py": {"mixup"},
    "training/adversaries.py": {"mixup", "pgd"},  # the same, and what an adversary's attack is called
    "results/upgrades.py": {"finetune", "pretrained", "ns"},  # what files of schema 1 called their methods
    "shapes10/pretrain.py": {"pretrained"},  # a folder
}


def literals(path: Path) -> list[str]:
    """String literals of a file that are no docstrings."""
    tree = ast.parse(path.read_text())
    texts = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and isinstance(node.body[0], ast.Expr)
    }
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in texts
    ]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_engine_names_no_suite_or_method(path: Path) -> None:
    """Not in quotes either. What it must know of one is a field that the content declares: a role, a composition."""
    place = str(path.relative_to(PACKAGE))
    if place.startswith("cli/"):  # help texts give examples
        named = CONTENT & set(literals(path))
    else:
        named = CONTENT & {word for text in literals(path) for word in re.findall(r"\w+", text)}
    assert not named - SPLITS - ATTACKS - ALLOWED.get(place, set())


def test_at_most_ten_loose_files_in_the_package() -> None:
    assert len([path for path in PACKAGE.iterdir() if path.is_file()]) <= 10


def test_data_reads_and_knows_no_model_and_no_attack() -> None:
    for path in (PACKAGE / "data").glob("*.py"):
        assert not imported_parts(path) & {"models", "attacks", "making", "training", "run"}, path


def test_there_is_no_circle_between_modules() -> None:
    """Not even one for type checkers: every import counts, at the top or inside a function."""
    names = {module_name(path): path for path in MODULES}
    graph = {name: imported_modules(path) & set(names) - {name} for name, path in names.items()}
    rooms: dict[str, set[str]] = {}
    for name, imported in graph.items():
        for other in imported:
            if name.split(".")[1:2] != other.split(".")[1:2]:
                rooms.setdefault(".".join(name.split(".")[:2]), set()).add(".".join(other.split(".")[:2]))
    rooms.pop("nsbench", None)
    TopologicalSorter({name: others - {"nsbench"} for name, others in rooms.items()}).prepare()  # raises CycleError


def module_name(path: Path) -> str:
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_modules(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("nsbench"):
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found
