"""`nsbench check`: regressions in CI. It parses, calls and prints; nothing else."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nsbench import registry
from nsbench.cli.completion import complete_methods, complete_suites
from nsbench.cli.ending import say_error
from nsbench.cli.options import Sectioned, check_options, given_names
from nsbench.cli.stopping import WHOLE, when_stopped
from nsbench.errors import NsbenchError, ResultError, UsageError, without_controls
from nsbench.files import importing, try_place, write_atomically, writing

if TYPE_CHECKING:
    from nsbench.regression import Baseline, BaselineCheck, Measurement, Rules

FILE = click.Path(path_type=Path, dir_okay=False)
INCOMPARABLE = 3  # exit status
ALSO_WITHOUT_RUN = ("results", "data", "follow_links")


@click.command(cls=Sectioned)
@click.option("--baseline", "file", type=FILE, required=True, help="A file of `nsbench baseline record`.")
@click.option(
    "--run",
    "runs",
    is_flag=True,
    help="Run anew instead of reading --results. Takes the options of "
    "`nsbench run`; those not given are the baseline's.",
)
@click.option(
    "--method",
    "methods",
    shell_complete=complete_methods,
    help="Only these methods, or 'all' that exist. Default: the baseline's.",
)
@click.option(
    "--suite", "suites", shell_complete=complete_suites, help="Only these suites or groups. Default: the baseline's."
)
@check_options
@click.option(
    "--cached-weights",
    is_flag=True,
    help="With --run, take fitted weights from the cache: quicker, and blind to changes of the training.",
)
@click.option(
    "--alpha",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.01,
    show_default=True,
    help="Chance of any false verdict in a check of unchanged code.",
)
@click.option(
    "--min-drop",
    type=click.FloatRange(min=0),
    default=0.5,
    show_default=True,
    help="Points below which a drop is no regression, however certain.",
)
@click.option("--strict", is_flag=True, help="Fail as well where outcomes moved beyond noise, or improved.")
@click.option(
    "--max-slowdown",
    type=click.FloatRange(min=0, min_open=True),
    metavar="RATIO",
    help="Fail where seconds, as ratio to the reference workload, grew by more.",
)
@click.option(
    "--max-memory", type=click.FloatRange(min=0, min_open=True), metavar="RATIO", help="The same for peak memory."
)
@click.option("--junit", type=FILE, help="Write JUnit XML: a test case per suite.")
@click.option("--summary", type=FILE, help="Append a Markdown summary, such as to $GITHUB_STEP_SUMMARY.")
@click.option("--json", "json_", type=FILE, help="Write everything as JSON.")
@click.option("--annotations/--no-annotations", default=None, help="GitHub annotations. Default: in GitHub Actions.")
@click.option(
    "--explain",
    type=FILE,
    is_flag=False,
    flag_value=Path("check.html"),
    help="Write a page of the flipped images. Default: check.html.",
)
def check(
    file: Path,
    runs: bool,
    methods: str | None,
    suites: str | None,
    cached_weights: bool,
    alpha: float,
    min_drop: float,
    strict: bool,
    max_slowdown: float | None,
    max_memory: float | None,
    junit: Path | None,
    summary: Path | None,
    json_: Path | None,
    annotations: bool | None,
    explain: Path | None,
    **options: Any,
) -> None:
    """Did robustness get worse? Compares results with a baseline, image by image.

    Exit status: 0 ok or improved; 1 regressed (or moved, or slower than allowed); 2 wrong usage; 3 incomparable, or a
    file that was asked for cannot be written; 4 an unexpected error, which says nothing of the model.
    """
    from nsbench.regression import Rules, read_baseline

    given = given_names()
    if runs:
        when_stopped(WHOLE)
    if runs and "results" in given:
        raise UsageError("--run and --results exclude each other: results are computed anew, or read from a folder")
    extra = sorted(given - set(ALSO_WITHOUT_RUN)) + ["cached_weights"] * cached_weights
    if extra and not runs:
        raise UsageError(f"--{extra[0].replace('_', '-')}: only with --run; stored results are compared as they are")
    if runs:
        _require_places(junit, json_, summary, explain)
    try:
        from nsbench.run.named_suites import register_sets

        registry.load_content()
        register_sets(options["data"])
        if not os.path.lexists(file):
            raise UsageError(
                f"--baseline {file}: does not exist; record one: nsbench baseline record --method NAME,NAME --suite all "
                f"--limit 100 --out {file}"
            )
        held = read_baseline(file)
        pairs = _pairs(held, methods, suites)
        rules = Rules(alpha, min_drop, strict, max_slowdown, max_memory)
        checked = (
            _run(held, pairs, rules, given, options, cached_weights)
            if runs
            else _read(held, pairs, rules, options["results"])
        )
    except UsageError:
        raise
    except NsbenchError as error:  # nothing could be compared, which is no regression
        say_error(str(error))
        sys.exit(INCOMPARABLE)
    _say(checked, annotations)  # the verdict comes first: no full disk may hide it
    refused = _write(checked, junit, summary, json_, explain, options["data"], options["follow_links"])
    for line in refused:
        say_error(line)
    sys.exit(checked.exit_status or (INCOMPARABLE if refused else 0))


def _pairs(held: Baseline, methods: str | None, suites: str | None) -> list[tuple[str, str]]:
    """(method, suite) to compare: the baseline's, cut down to, or extended by, what was named. Empty: the baseline's."""
    known_methods = tuple(dict.fromkeys(entry.method for entry in held.entries))
    known_suites = tuple(dict.fromkeys(entry.suite for entry in held.entries))
    if methods is None and suites is None:
        return []
    chosen_methods = registry.resolve_methods(methods) if methods else known_methods
    chosen_suites = registry.resolve_suites(suites) if suites else known_suites
    return [(method, suite) for method in chosen_methods for suite in chosen_suites]


def _read(held: Baseline, pairs: list[tuple[str, str]], rules: Rules, results: Path) -> BaselineCheck:
    from nsbench.regression import check_results
    from nsbench.results import read_results

    if not results.is_dir():
        raise UsageError(f"--results {results}: is not a folder; run something first, or add --run")
    return check_results(held, read_results(results)[0], rules, pairs=pairs)


def _run(
    held: Baseline,
    pairs: list[tuple[str, str]],
    rules: Rules,
    given: set[str],
    options: dict[str, Any],
    cached: bool,
) -> BaselineCheck:
    """Measure the pairs that the baseline holds, with its options where none were given."""
    from nsbench.progress import ConsoleProgress
    from nsbench.regression import check_results

    with importing():
        from nsbench.regression.measure import measured, typed_options

    if missing := [name for name in held.needs if name not in given]:
        raise UsageError(
            f"the baseline was recorded with --{missing[0]}, which lies elsewhere on every machine: "
            f"say what to check with --{missing[0]}"
        )
    known = [entry for entry in held.entries if not pairs or (entry.method, entry.suite) in pairs]
    methods = tuple(dict.fromkeys(e.method for e in known if e.method in registry.methods))
    suites = tuple(dict.fromkeys(e.suite for e in known if e.suite in registry.suites))
    settings = options | {name: value for name, value in held.options.items() if name in options and name not in given}
    run: Measurement
    with measured(typed_options(methods, suites, settings), ConsoleProgress(), cached_weights=cached) as run:
        return check_results(
            held, run.results, rules, pairs=pairs, any_model=True, why_missing=run.why_missing, reference=run.reference
        )


def _say(checked: BaselineCheck, annotations: bool | None) -> None:
    from nsbench.regression.output import to_annotations, to_text

    click.echo(without_controls(to_text(checked)), nl=False)
    if os.environ.get("GITHUB_ACTIONS") == "true" if annotations is None else annotations:
        for line in to_annotations(checked):
            click.echo(line)


def _write(
    checked: BaselineCheck,
    junit: Path | None,
    summary: Path | None,
    json_: Path | None,
    explain: Path | None,
    data: str,
    follow_links: bool,
) -> list[str]:
    """Write what was asked for. Returns a line for each file that could not be written."""
    from nsbench.regression.explain import write_explanation
    from nsbench.regression.junit import to_junit
    from nsbench.regression.output import to_json, to_markdown

    def explained(path: Path) -> None:
        click.echo(str(write_explanation(checked, path, data, follow_links)))

    def appended(path: Path) -> None:
        with path.open("a", encoding="utf-8") as file:
            file.write(without_controls(to_markdown(checked)))

    refused = []
    for path, write in (
        (junit, lambda path: _replace(path, to_junit(checked))),
        (json_, lambda path: _replace(path, to_json(checked).encode())),
        (summary, appended),
        (explain, explained),
    ):
        try:
            if path:
                with writing(path, ResultError, "choose another file, or free some space"):
                    write(path)
        except NsbenchError as error:
            refused.append(str(error))
    return refused


def _require_places(*paths: Path | None) -> None:
    """Before the work: raises UsageError for a file in a folder where nothing can be written."""
    for path in paths:
        if path and (path.is_file() or not path.exists()):
            with writing(path, UsageError, "choose another file"):
                try_place(path)


def _replace(path: Path, content: bytes) -> None:
    """Whole or not at all, but for devices and pipes, such as /dev/stdout."""
    if path.exists() and not path.is_file():
        path.write_bytes(content)
    else:
        write_atomically(path, content)
