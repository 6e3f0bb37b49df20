"""Loading what registers suites, methods and attacks.

Content is found by scanning folders (`suites/`, `baselines/`) and the entry points `nsbench.suites`, `nsbench.methods` and
`nsbench.attacks`, so adding a suite or a method is adding one file. Files of one's own are included by
name: `--include`, NSBENCH_INCLUDE, or `include` under [tool.nsbench] in the pyproject.toml of the project that one is in.
"""

from __future__ import annotations

import importlib.util
import os
import tomllib
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from nsbench.errors import NsbenchError, UsageError
from nsbench.registry.code import CONTENT, ENTRY_POINTS, digest_of_file
from nsbench.registry.registries import attacks, methods, suites

included: list[Path] = []  # files and folders that --include names
_loaded: set[Path] = set()


def content_folder(name: str) -> Path:
    """`suites` or `baselines`: inside the package when installed from a wheel, beside it in a checkout."""
    package = Path(__file__).parent.parent
    bundled = package / "_content" / name
    return bundled if bundled.is_dir() else package.parent / name


def load_content(own: Sequence[Path] | None = None) -> None:
    """Import every content file once. Idempotent; a file that breaks the contract is named.

    `own`: files of one's own, in place of those that options, environment and project name.
    """
    from importlib.metadata import entry_points  # a third of what `import nsbench` would take

    for kind, registry in (("suites", suites), ("baselines", methods)):
        for path in sorted(content_folder(kind).glob("*.py")):
            if path.stem not in registry:
                _load_file(path)
                if path.stem not in registry:
                    raise NsbenchError(f"{path}: must register '{path.stem}', its own file name")
    for group in ENTRY_POINTS:
        for entry in entry_points(group=group):
            entry.load()
    for path in included_files() if own is None else own:
        if path not in _loaded:
            _loaded.add(path)
            _include(path)


def included_files() -> list[Path]:
    """Files of one's own: those of options, of the environment, and of the project that one is in; in this order."""
    environment = [Path(name) for name in os.environ.get("NSBENCH_INCLUDE", "").split(os.pathsep) if name]
    named = [*included, *environment, *_of_project()]
    files: dict[Path, None] = {}
    for name in named:
        path = name.expanduser().resolve()
        found = sorted(path.glob("*.py")) if path.is_dir() else [path]
        if not found or not all(one.is_file() and one.suffix == ".py" for one in found):
            raise UsageError(f"include {name}: is no Python file and no folder with some; correct the path")
        files |= dict.fromkeys(found)
    return list(files)


OF_PROJECTS = ("include", "slurm")  # what a pyproject.toml may state under [tool.nsbench]


def of_project(key: str) -> tuple[Path, object] | None:
    """The nearest pyproject.toml, and what it states as `key` under [tool.nsbench]; None where it states nothing.

    Raises UsageError where it cannot be read.
    """
    here = Path.cwd()
    project = next((at / "pyproject.toml" for at in (here, *here.parents) if (at / "pyproject.toml").is_file()), None)
    if project is None:
        return None
    try:
        table = tomllib.loads(project.read_text("utf-8")).get("tool", {}).get("nsbench", {})
        stated, unknown = table.get(key), sorted(set(table) - set(OF_PROJECTS))
    except (OSError, ValueError, AttributeError) as error:
        raise UsageError(f"{project}: cannot be read ({error}); correct it") from error
    if unknown:
        raise UsageError(f"{project}: [tool.nsbench] {unknown[0]} is not known; known: {', '.join(OF_PROJECTS)}")
    return None if stated is None else (project, stated)


def _of_project() -> list[Path]:
    """What the project lists as `include`, relative to itself."""
    if (found := of_project("include")) is None:
        return []
    project, listed = found
    if not isinstance(listed, list) or not all(isinstance(one, str) and "\0" not in one for one in listed):
        raise UsageError(f'{project}: [tool.nsbench] include must be a list of paths, such as include = ["methods"]')
    return [project.parent / one for one in listed]


def _include(path: Path) -> None:
    """Load a file of one's own. What it registers carries its digest, so that an edited file is another measurement."""
    before = {registry.kind: set(registry) for registry in (suites, methods, attacks)}
    try:
        _load_file(path)
    except NsbenchError:
        raise
    except (Exception, SystemExit) as error:  # whatever the author's file raises, named with its line
        at = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        line = getattr(error, "lineno", None) or (at[-1] if at else 1)
        raise UsageError(f"{path}:{line}: {type(error).__name__}: {error}") from error
    code = digest_of_file(path)
    if not sum(registry.note_code(before[registry.kind], code) for registry in (suites, methods, attacks)):
        raise UsageError(f"{path}: registers no suite, method or attack; see @nb.suite, @nb.method, @nb.attack")


def _load_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{CONTENT}.{path.stem}", path)
    if spec is None or spec.loader is None:
        raise NsbenchError(f"{path}: is not a Python file that can be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
