"""The commands that make results again: of what they were made by, only what these results are.

A result states the command that made it, which may have asked for other methods, suites and seeds at once. What decides
a figure beside these (data, model, recipe, settings, limit ...) is kept; where and how the work was done is not.
"""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import cache

from nsbench.errors import NsbenchError
from nsbench.leaderboard import PAPER_COLUMNS
from nsbench.results.record import Result
from nsbench.run.study import fits, load_study
from nsbench.types import GROUPS

PROGRAM = ["nsbench", "run"]
FLAGS = (  # options of `nsbench run` without a value
    "--follow-links", "--force", "--allow-missing", "--resize-ready",
    "-q", "--quiet", "-v", "--verbose", "--dry-run", "--no-measure",
)  # fmt: skip
ASKED = ("--method", "--suite", "--seed", "--study")  # said anew
NO_FIGURE = (  # options that move no figure
    "--force", "-q", "--quiet", "-v", "--verbose", "--dry-run", "--no-measure", "--results", "--log", "--log-file",
    "--batch-size", "--workers", "--engine", "--shard-images", "--task-cpus", "--task-gpus", "--task-memory", "--slurm",
)  # fmt: skip
MOST = 12  # commands that are listed
Settings = Sequence[Mapping[str, str]]  # of a study, as `--set` gives them


def commands_of(results: Sequence[Result]) -> list[str]:
    """That make exactly these results again: one for each kind of options, methods, suites and seeds. Of a result that
    no command line made, what it states."""
    words: dict[tuple[str, ...], tuple[str, ...]] = {}  # by what tells options apart, as they were given
    groups: dict[tuple[str, ...], list[Result]] = defaultdict(list)
    stated: dict[str, None] = {}
    settings_of = cache(_settings_of)  # of each study once, and anew at each call: its file may change
    for one in sorted(results, key=_place):
        if (kept := _kept(one, settings_of)) is None:
            stated[one.provenance.command] = None
        else:
            key = tuple(sorted(kept))
            words.setdefault(key, kept)
            groups[key].append(one)
    found = [line for key, mine in groups.items() for line in _lines(words[key], mine)]
    found += filter(None, stated)
    rest = len(found) - MOST
    return found if rest <= 0 else [*found[:MOST], f"# and {rest} more: each result states its own"]


def _place(result: Result) -> tuple[int, int, int, str]:
    """In the order of columns and rows."""
    group = GROUPS.index(result.group) if result.group in GROUPS else len(GROUPS)
    return group, result.order, result.method_order, result.method


def _parsed(command: str) -> list[tuple[str, ...]] | None:
    """The options of a command line, each with its value; None where it is no `nsbench run`."""
    try:
        words = shlex.split(command)
    except ValueError:
        return None
    if words[:2] != PROGRAM:
        return None
    found: list[tuple[str, ...]] = []
    rest = iter(words[2:])
    for word in rest:
        name, equals, value = word.partition("=")
        if name in FLAGS:
            found.append((name,))
        else:
            found.append((name, value) if equals and name.startswith("--") else (name, next(rest, "")))
    return found


def _kept(result: Result, settings_of: Callable[[str], Settings]) -> tuple[str, ...] | None:
    """Of the command that made a result what is not said anew, an option a text; None where it is no command line."""
    options = _parsed(result.provenance.command)
    if options is None:
        return None
    study = next((option[1] for option in options if option[0] == "--study"), "")
    left = [shlex.join(option) for option in options if option[0] not in (*ASKED, *NO_FIGURE)]
    return (*left, *_setting(study, settings_of(study), result))


def _settings_of(study: str) -> Settings:
    """Of a study; none where it cannot be read."""
    try:
        return load_study(study).texts() if study else []
    except NsbenchError:
        return []


def _setting(study: str, settings: Settings, result: Result) -> list[str]:
    """What a study set for this result; the study itself where that cannot be read of it."""
    if not study:
        return []
    setting = next((one for one in settings if fits(result.provenance, one)), None)
    if setting is None:
        return [shlex.join(["--study", study])]
    return [shlex.join(["--set", f"{field}={value}"]) for field, value in setting.items()]


def _lines(words: Sequence[str], results: Sequence[Result]) -> list[str]:
    """One command for each set of suites that the same methods have with the same seeds."""
    seeds: dict[tuple[str, str], set[int]] = defaultdict(set)
    for one in results:
        seeds[one.method, _suite(one, words)].add(one.seed)
    suites: dict[tuple[str, tuple[int, ...]], list[str]] = defaultdict(list)
    for (method, suite), mine in seeds.items():
        suites[method, tuple(sorted(mine))].append(suite)
    methods: dict[tuple[tuple[str, ...], tuple[int, ...]], list[str]] = defaultdict(list)
    for (method, own), names in suites.items():
        methods[tuple(names), own].append(method)
    paper = {_suite(one, words) for one in results if one.paper}
    return [
        " ".join([*PROGRAM, shlex.join(_asked(names, mine, own, paper)), *words])
        for (mine, own), names in methods.items()
    ]


def _asked(methods: Sequence[str], suites: Sequence[str], seeds: Sequence[int], paper: set[str]) -> list[str]:
    return ["--method", ",".join(methods), "--suite", _group(suites, paper), "--seed", ",".join(map(str, seeds))]


def _suite(result: Result, words: Sequence[str]) -> str:
    """As a command names it: with other settings of its attacks a suite is called otherwise."""
    changed = any(word.startswith("--set-attack ") for word in words)
    return result.suite.partition("-")[0] if changed else result.suite


def _group(suites: Sequence[str], paper: set[str]) -> str:
    return "all" if len(suites) == PAPER_COLUMNS and set(suites) == paper else ",".join(suites)
