"""What tells code of one's own that registers something from an edited one, wherever it stands.

Of a file it is the file's digest, and that of the files of one's own that it imports: any change of them is another
measurement. What was typed into a notebook has no file; there it is what was compiled, with the functions and values of
the session that it names, read anew whenever it is asked for, since a cell may be run again.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
from collections.abc import Callable, Iterator
from importlib.machinery import PathFinder
from pathlib import Path

from nsbench.registry.spelled import SESSIONS, file_of, is_own_file, of_library, spelled

ENTRY_POINTS = ("nsbench.suites", "nsbench.methods", "nsbench.attacks")
CONTENT = "nsbench_content"  # package that content files are loaded into; their digests are noted when they are loaded
ReadCode = Callable[[], str]


def code_of(function: object, *others: object) -> str | ReadCode:
    """A digest of the code that registers `function`, or what reads it; "" where versions say what changed.

    `others` are functions that belong to it, such as the score of a suite.
    """
    module = str(getattr(function, "__module__", None) or "")
    if module.partition(".")[0] == CONTENT or of_library(module) or _of_plugin(module):
        return ""
    if (file := _file_of_function(function)) is None:
        return lambda: spelled(function, *others)
    return digest_of_file(file, module)


def digest_of_file(file: Path, module: str = "") -> str:
    """16 hex digits of a file and of those of one's own that it imports; where it imports none, of its bytes."""
    found: dict[Path, str] = {}
    _add_files(file.resolve(), module, found)
    first, *others = found.values()
    others = sorted(set(others) - {first})
    return hashlib.sha256("\n".join([first, *others]).encode()).hexdigest()[:16] if others else first[:16]


def _add_files(file: Path, module: str, found: dict[Path, str]) -> None:
    content = file.read_bytes()
    found[file] = hashlib.sha256(content).hexdigest()
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    for name in _imports(content, package):
        other = _place(name)
        if other and other not in found and is_own_file(name, other):
            _add_files(other, name, found)


def _imports(content: bytes, package: str) -> Iterator[str]:
    """Every module that a file may mean by its import statements, its own functions' among them."""
    try:
        nodes = list(ast.walk(ast.parse(content)))
    except (SyntaxError, ValueError):
        return
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join(filter(None, [*above, node.module]))
            yield base
            yield from (f"{base}.{one.name}" for one in node.names)


def _place(module: str) -> Path | None:
    """The Python file of a module, which is not imported for that; None where there is none."""
    if (known := file_of(module)) is None:
        spec, folders = None, None
        for end in [at for at, letter in enumerate(f"{module}.") if letter == "."]:
            if not (spec := PathFinder.find_spec(module[:end], folders)):
                return None
            folders = spec.submodule_search_locations or []
        known = Path(spec.origin) if spec and spec.origin else None
    return known.resolve() if known and known.suffix == ".py" and known.is_file() else None


def _of_plugin(module: str) -> bool:
    """Whether it belongs to a package that offers its content by entry points, and so has a version."""
    from importlib.metadata import entry_points  # a third of what `import nsbench` would take

    top = module.partition(".")[0]
    return any(top == one.module.partition(".")[0] for group in ENTRY_POINTS for one in entry_points(group=group))


def _file_of_function(function: object) -> Path | None:
    """That it stands in; None where it was typed into a session, which may keep a file of each cell."""
    module = getattr(function, "__module__", None)
    code = getattr(inspect.unwrap(function), "__code__", None) if callable(function) else None
    file = Path(code.co_filename) if code else file_of(module)
    if module in SESSIONS and file != file_of(module):
        return None
    return file if file and file.is_file() else None
