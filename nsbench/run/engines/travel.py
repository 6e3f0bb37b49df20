"""Options on their way to another machine: files that they name go with them, data do not."""

from __future__ import annotations

import atexit
import hashlib
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import replace
from functools import cache
from pathlib import Path

from nsbench import __version__, registry
from nsbench.data import SurrogateName
from nsbench.data.source import digest_of
from nsbench.errors import UsageError
from nsbench.files import OTHER_CACHE, expanded, read_regular, temporary_folder, write_atomically, writing
from nsbench.models.own_code import file_named
from nsbench.run.engines.work import Sent
from nsbench.run.options import RunOptions

FOLDERS = ("local-dir:", "transformers:")  # models that may be folders
BESIDE = ("config.json", "preprocessor_config.json")  # of a checkpoint, which say how its images are prepared


def packed(options: RunOptions) -> Sent:
    """The options with the files that they name. Raises UsageError for one that cannot be read."""
    files: dict[str, bytes] = {}
    moved: dict[str, str] = {}
    for field, (folder, paths) in _named(options).items():
        own = _read(folder, paths)
        if own:
            place = digest_of(*(f"{name} {hash_of(content)}" for name, content in own.items()))
            files |= {f"{place}/{name}": content for name, content in own.items()}
            moved[field] = f"{place}/{next(iter(own))}" if field not in FOLDERS else f"{place}/{folder.name}"
    included = []
    for path in registry.included_files():
        (content,) = _read(path.parent, [path]).values()
        included.append(f"{hash_of(content)}/{path.name}")
        files[included[-1]] = content
    options = replace(options, data=_absolute(options.data))
    digest = digest_of(__version__, repr(options), *files, *included, sorted(moved.items()))
    return Sent(options, files, tuple(included), moved, __version__, digest)


def unpacked(sent: Sent) -> RunOptions:
    """The options for this machine; what registers content of one's own is loaded. Raises an nsbench error."""
    root = _own_folder()
    for place, content in sent.files.items():
        if not (path := root / place).exists():
            with writing(path, UsageError, OTHER_CACHE):
                write_atomically(path, content)
    registry.load_content([root / place for place in sent.included])
    options = sent.options
    for field, place in sent.moved.items():
        options = _with_file(options, field, root / place)
    return options


def hash_of(content: bytes) -> str:
    """16 hex digits."""
    return hashlib.sha256(content).hexdigest()[:16]


def _named(options: RunOptions) -> dict[str, tuple[Path, list[Path]]]:
    """By field, or by the kind of a model's folder: a folder and files of it, the one that the field names first."""
    found: dict[str, tuple[Path, list[Path]]] = {}
    if options.checkpoint:
        path = expanded(str(options.checkpoint))
        found["checkpoint"] = (path.parent, [path, *filter(Path.is_file, (path.with_name(name) for name in BESIDE))])
    if options.class_map and (path := expanded(options.class_map)).is_file():
        found["class_map"] = (path.parent, [path])
    model = options.model or ""
    where, _, function = model.rpartition(":")
    if function and file_named(where):
        path = expanded(where)
        found["model"] = (path.parent, [path])
    for kind in FOLDERS:
        if model.startswith(kind) and (folder := expanded(model.removeprefix(kind)).absolute()).is_dir():
            found[kind] = (folder, sorted(path for path in folder.rglob("*") if path.is_file()))
    if options.surrogate and (file := SurrogateName.parse(options.surrogate).checkpoint):
        found["surrogate"] = (file.parent, [file, *filter(Path.is_file, (file.with_name(name) for name in BESIDE))])
    return found


def _read(folder: Path, paths: Iterable[Path]) -> dict[str, bytes]:
    """Content by the path from what holds the folder."""
    found: dict[str, bytes] = {}
    for path in paths:
        try:
            found[f"{folder.name or 'files'}/{path.relative_to(folder).as_posix()}"] = read_regular(path)
        except OSError as error:
            raise UsageError(f"{path}: cannot be read ({error.strerror or error}), and so not be sent") from error
    return found


def _with_file(options: RunOptions, field: str, path: Path) -> RunOptions:
    """The options with the path of a file, or folder, of this machine."""
    if field == "checkpoint":
        return replace(options, checkpoint=path)
    if field == "class_map":
        return replace(options, class_map=str(path))
    if field == "surrogate":
        return replace(options, surrogate=f"{SurrogateName.parse(options.surrogate or '').name}:{path}")
    if field == "model":
        return replace(options, model=f"{path}:{(options.model or '').rpartition(':')[2]}")
    return replace(options, model=f"{field}{path}")


def _absolute(data: str) -> str:
    """A path of data as every directory of this machine sees it; other names stay."""
    kind, colon, place = data.partition(":")
    if kind == "folder" and place:
        return f"{kind}:{expanded(place).absolute()}"
    if kind == "torchvision" and place.count(":"):
        name, _, root = place.partition(":")
        return f"{kind}:{name}:{expanded(root).absolute()}"
    return data if colon or not expanded(data).exists() else str(expanded(data).absolute())


@cache
def _own_folder() -> Path:
    """Of this process; it goes with it, or, where that is killed, with the next one."""
    stack = ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(temporary_folder("nsbench-sent-"))
