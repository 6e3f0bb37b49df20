"""`nsbench list`: what can be named."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import click

from nsbench import registry
from nsbench.cli.options import include, ordered_methods, ordered_suites


@click.command("list")
@click.argument(
    "what", required=False, type=click.Choice(["suites", "methods", "models", "sources", "recipes", "studies"])
)
@include
def list_(what: str | None) -> None:
    """List suites, methods, models, sources, recipes or studies; without an argument suites and methods."""
    registry.load_content()
    listings: dict[str, Callable[[], Iterable[tuple[str, ...]]]] = {
        "suites": lambda: [(s.name, s.group, s.title, s.citation) for s in ordered_suites()],
        "methods": lambda: [(m.name, m.title, m.citation) for m in ordered_methods()],
        "models": _models,
        "sources": _sources,
        "recipes": _recipes,
        "studies": _studies,
    }
    for name in [what] if what else ["suites", "methods"]:
        _print_table(name, list(listings[name]()))


def _print_table(title: str, rows: list[tuple[str, ...]]) -> None:
    click.secho(title, bold=True)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)] if rows else []
    for row in rows:
        click.echo("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _models() -> list[tuple[str, ...]]:
    from nsbench.models import known_models

    return list(known_models().items())


def _sources() -> list[tuple[str, ...]]:
    return [
        ("shapes10", "embedded: ten procedurally drawn shapes, every split, its own checkpoint"),
        ("PATH", "the folder of an ImageNet tree: val/<wnid>, train/<wnid>, imagenet-a, ..."),
    ]


def _recipes() -> list[tuple[str, ...]]:
    from nsbench.training import known_recipes

    return [(name,) for name in known_recipes()]


def _studies() -> list[tuple[str, ...]]:
    from nsbench.run.study import known_studies, load_study

    return [(name, load_study(name).title) for name in known_studies()]
