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
    if what == "recipes":
        _print_table("the same in all of them; change any field with --set FIELD=VALUE", _shared_fields())


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
    """A line per field in which recipes differ, a column per recipe."""
    names, rows = _fields()
    return [("", *names), *(row for row in rows if len(set(row[1:])) > 1)]


def _shared_fields() -> list[tuple[str, ...]]:
    return [row[:2] for row in _fields()[1] if len(set(row[1:])) == 1]


def _fields() -> tuple[list[str], list[tuple[str, ...]]]:
    """The recipes' names, and every field with its values in them, as --set takes them."""
    from nsbench.training import known_recipes, load_recipe

    names = known_recipes()
    values = [load_recipe(name).model_dump(mode="json", exclude={"name", "seed"}) for name in names]
    return names, [(field, *(_value(field, one[field]) for one in values)) for field in values[0]]


def _value(field: str, value: object) -> str:
    if isinstance(value, list):
        return ",".join(_value(field, one) for one in value)
    if field in ("attack_eps", "attack_step_size") and isinstance(value, float):
        return f"{255 * value:g}/255"
    return f"{value:.6g}" if isinstance(value, float) else str(value) or '""'


def _studies() -> list[tuple[str, ...]]:
    from nsbench.run.study import known_studies, load_study

    return [(name, load_study(name).title) for name in known_studies()]
