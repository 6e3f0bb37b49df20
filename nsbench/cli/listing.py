"""`nsbench list`: what can be named."""

from __future__ import annotations

import json
import textwrap
from typing import Any

import click

from nsbench import registry
from nsbench.cli.names import KINDS, Row
from nsbench.cli.options import include
from nsbench.errors import without_controls

WIDTH, DEEP = 118, "      "  # columns of the text, and what its lines begin with


@click.command("list")
@click.argument("what", required=False, type=click.Choice(list(KINDS)))
@click.option("--json", "as_json", is_flag=True, help="Print an object of lists instead, for programs.")
@include
def list_(what: str | None, as_json: bool) -> None:
    """List what can be named, each with a line about it; without an argument suites and methods."""
    registry.load_content()
    kinds = [what] if what else ["suites", "methods"]
    if as_json:
        click.echo(json.dumps({kind: _records(kind) for kind in kinds}, indent=1, ensure_ascii=False))
        return
    if what == "recipes":
        _print_table(what, _recipes())
        _print_table("the same in all of them; change any field with --set FIELD=VALUE", _shared_fields())
    for kind in kinds:
        _print_rows("what they are for" if kind == "recipes" else kind, KINDS[kind]())


def _records(kind: str) -> list[dict[str, Any]]:
    """Rows for programs: recipes with all their fields."""
    rows = KINDS[kind]()
    if kind != "recipes":
        return [dict(row) for row in rows]
    from nsbench.training import load_recipe

    return [
        row | {"fields": load_recipe(row["name"]).model_dump(mode="json", exclude={"name", "seed"})} for row in rows
    ]


def _print_rows(title: str, rows: list[Row]) -> None:
    """The facts in columns, and what is said about each below it, or beside it where there is nothing else."""
    columns = [key for key in rows[0] if key != "about" and any(row[key] for row in rows)] if rows else []
    if columns == ["name"]:
        columns.append("about")
    table = [tuple(row[key] for key in columns) for row in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    click.secho(title, bold=True)
    for row, cells in zip(rows, table, strict=True):
        line = "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        click.echo(f"  {without_controls(line).rstrip()}")
        if "about" not in columns and row["about"]:
            click.echo(
                textwrap.fill(without_controls(row["about"]), WIDTH, initial_indent=DEEP, subsequent_indent=DEEP)
            )


def _print_table(title: str, rows: list[tuple[str, ...]]) -> None:
    click.secho(title, bold=True)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)] if rows else []
    for row in rows:
        click.echo("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


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
