"""What a reader must know beside the figures of a table, in sentences: one place for all formats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nsbench.leaderboard import AVERAGE, Row, RowFlag, Table
from nsbench.report.numbers import ONCE, average_column
from nsbench.report.side_columns import COST, side_notes
from nsbench.report.words import listed
from nsbench.results.record import RecipeUsed
from nsbench.training.recipe import LATER, known_recipes, load_recipe


@dataclass(frozen=True)
class CellApart:
    """A figure that is shown and not compared."""

    label: str  # of its row
    title: str  # of its column
    reason: str


def cells_apart(table: Table) -> list[CellApart]:
    return [
        CellApart(row.label, column.title, cell.reason)
        for row in table.rows
        for column in table.columns
        if (cell := row.cells.get(column.suite)) and not cell.comparable
    ]


def notes(table: Table) -> list[str]:
    """Below every table: what is not compared, notes on rows, what σ means, what stands beside the figures."""
    return [
        *(f"≠ {one.label}, {one.title}: not compared, {one.reason}." for one in cells_apart(table)),
        *(f"{row.label}: {note}." for row in table.rows for note in row.notes),
        *lent_notes(table),
        *filter(None, [seed_note(table), once_note(table)]),
        *side_notes(table),
    ]


def text_notes(table: Table) -> list[str]:
    """Below a table that has no page around it: also its order, its average, its costs and its health flags."""
    first = [
        rows_note(table),
        order_note(table),
        average_column(table).summary if table.partial_suites else "",
    ]
    return [*filter(None, first), *notes(table), *side_notes(table, [COST]), *health_notes(table)]


def marks_note(table: Table, best: str, tied: str) -> str:
    """How the best of a column is marked, and what cannot be told from it; "" where no figure has a mark."""
    cells = [cell for row in table.rows for cell in (*row.cells.values(), row.cell(AVERAGE)) if cell]
    words = [f"{best}: the best of its column"] if any(cell.best for cell in cells) else []
    words += [f"{tied}: cannot be told from the best (paired tests, Holm)"] if any(cell.tied for cell in cells) else []
    return f"{'; '.join(words)}." if words else ""


def rows_note(table: Table) -> str:
    """By what the rows stand, where an average does not say so; else ""."""
    by = "" if all(row.cell(AVERAGE) for row in table.rows) else _order(table)
    return f"Rows: {by}." if by else ""


def order_note(table: Table, what: str = "") -> str:
    """How much of the order by average the data support; "" where there is none. `what`: " of rows" after "pairs"."""
    separable, pairs = table.average_neighbours
    if not pairs:
        return ""
    return f"By average {separable} of {pairs} adjacent pair{'s' if pairs > 1 else ''}{what} can be told apart."


def shared_note(table: Table) -> str:
    """What all rows share, in what they differ beside their method, and in which order they stand: the sentence above a
    table."""
    many = f"{len(table.rows):,} row{'s' if len(table.rows) > 1 else ''}"
    apart = " (but for the figures marked ≠)" if cells_apart(table) else ""
    differs = _differs(table)
    recipe = f" and recipe ({_recipe(table)})" if len(table.recipes) == 1 and "recipe" not in " ".join(differs) else ""
    other = f"; beside their method they differ in {listed(differs)}" if differs else ""
    return f"{many} under the same protocol{apart}{recipe}{other}{f'; {by}' if (by := _order(table)) else ''}."


def _order(table: Table) -> str:
    """ "best first by average, the others by Clean"; "" of one row."""
    without = [row.first(table.columns) for row in table.rows if row.cell(AVERAGE) is None]
    titles = {column.title for column in without if column}
    first = f"by {titles.pop()}" if len(titles) == 1 else "by each one's first figure" if titles else "by name"
    by = ["by average"] if len(without) < len(table.rows) else []
    by += [f"the others {first}" if by else first] if without else []
    return f"best first {', '.join(by)}" if len(table.rows) > 1 else ""


def _recipe(table: Table) -> str:
    """ "paper", or "paper with epsilon 0.1": what is set otherwise than the recipe of this name says."""
    (name,) = table.recipes
    if name not in known_recipes():
        return name
    used = next(one.provenance.recipe for one in table.results if one.provenance.recipe)
    own = load_recipe(name).model_dump(exclude={"name", "seed"})
    stated = {**LATER, **used.settings}
    told = [f"{field} {stated[field]}" for field in own if field in stated and stated[field] != own[field]]
    return f"{name} with {listed(told, most=6)}" if told else name


def _differs(table: Table) -> list[str]:
    """What is not the same for all rows, and no part of the protocol."""
    kin = [row.kin for row in table.rows]
    recipes = [one.provenance.recipe for row in table.rows for one in row.results[:1] if one.provenance.recipe]
    names = {one.name for one in recipes}
    fields = sorted(set().union(*(_changed([one for one in recipes if one.name == name]) for name in names)))
    found = (
        ("model", len({one.model for one in kin}) > 1),
        ("starting weights", len({(one.model, one.parent_digest) for one in kin}) > len({one.model for one in kin})),
        ("normalisation", len({one.normalisation for one in kin}) > 1),
        ("recipe", len(names) > 1),
        (f"the recipe's {listed([field.replace('_', ' ') for field in fields], most=4)}", bool(fields)),
    )
    return [word for word, differs in found if differs]


def _changed(namesakes: Sequence[RecipeUsed]) -> set[str]:
    """Fields that are not the same in all recipes of one name; what older ones do not state is what it was then."""
    stated = [{**LATER, **one.settings} for one in namesakes]
    common = set(stated[0]).intersection(*stated)
    return {field for field in common if len({str(one[field]) for one in stated}) > 1}


def lent_notes(table: Table) -> list[str]:
    """What rows of another results folder are, a line for each folder."""
    found = []
    for lender in dict.fromkeys(row.lender for row in table.rows if row.lender):
        rows = [row for row in table.rows if row.lender == lender]
        many = f"{len(rows)} row{'s are' if len(rows) > 1 else ' is'}"
        found.append(
            f"{many} from {lender}, not computed here: measured on the same images with the same seeds and, where rows "
            "here were trained, by their recipe. They take part in every comparison; --beside none leaves them out."
        )
    return found


def seed_note(table: Table) -> str:
    """What σ means, where a row has several seeds; else ""."""
    if not any(cell.deviation is not None for row in table.rows for cell in row.cells.values()):
        return ""
    return (
        "Rows with several seeds show the mean over seeds; σ is the standard deviation over seeds. Their intervals and "
        "tests take images and trainings as drawn, so that they speak of methods."
    )


def once_note(table: Table) -> str:
    """What may not be concluded from rows of one training; "" where there are none."""
    if not any(row.of_weights for row in table.rows):
        return ""
    return (
        f"{ONCE} One training: interval, bold, rank and verdict are over images and speak of these weights. How another "
        "training of the method would come out is not known from it: several seeds tell (nsbench run --seed 0,1,2,3,4)."
    )


def health_notes(table: Table) -> list[str]:
    """Signs that a row's adversarial figures flatter it: a line for each flag of each row."""
    return [_flagged(row, flag) for row in table.rows for flag in row.flags]


def _flagged(row: Row, flag: RowFlag) -> str:
    which = "" if flag.seed is None else f", seed {flag.seed}"
    return f"⚑ {row.label}{which}: {flag.name}. {flag.sentence}"
