"""What an experiment of the nullspace laboratory leaves behind: a table in the terminal, JSON, CSV, figures, and one
page that gathers the folder. Every command ends in `write_sheet`; the page is made anew from the folder each time.
"""

from __future__ import annotations

import base64
import csv
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from nsbench import provenance
from nsbench.errors import ResultError
from nsbench.files import read_regular, write_atomically, writing
from nsbench.laboratory.dark import at_night, natural_width
from nsbench.laboratory.figures import OTHER_OUT, save_figure
from nsbench.progress import table_console

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console

PAGE = "index.html"
KIND = "nsbench laboratory sheet"  # marks our JSON files in a folder that may hold others
SVG_LIMIT = 600_000  # bytes; a larger figure is shown on the page as its PNG
READABLE = 0.8  # of its own width: no figure is shown smaller, a narrow screen scrolls it
MSE_PROBABILITY = (
    "MSE probability: squared changes of the probabilities, summed over classes, mean over images; what epsilon bounds."
)


@dataclass(frozen=True)
class Sheet:
    """The outcome of one command on one subject. Values are plain: they are stored as JSON."""

    name: str  # the command: "dims"
    subject: str  # what it ran on, for the file's name: "vit_shapes10", "vit_tiny_patch16_224.layer3"
    title: str  # for people
    lede: str  # one sentence that says what is to be seen
    columns: Sequence[str]  # heads of the table, units included
    rows: Sequence[Sequence[Any]]  # numbers, texts, or None where there is nothing
    facts: Mapping[str, Any] = field(default_factory=dict)  # model, images, settings, seconds
    notes: Sequence[str] = ()  # what a reader must know
    data: Mapping[str, Any] = field(default_factory=dict)  # what the figures show beyond the table
    order: int = 100  # place on the page

    @property
    def stem(self) -> str:
        """File name without suffix."""
        return re.sub(r"[^A-Za-z0-9._-]+", "_", f"{self.name}.{self.subject}")


@dataclass(frozen=True, kw_only=True)
class _StoredSheet(Sheet):
    """What stands in its file."""

    figures: Sequence[str]  # file names without suffix
    command: str
    date: str


def write_sheet(sheet: Sheet, out: Path, figures: Mapping[str, Figure] | None = None) -> list[Path]:
    """Print the table; write <stem>.json, <stem>.csv, <stem>[.<figure>].svg and .png, and the page. Returns the files.

    `figures` maps a short name ("" for the only one) to a matplotlib figure. Raises ResultError where `out` cannot be
    written.
    """
    console = table_console()
    print_sheet(sheet, console)
    drawn = {f"{sheet.stem}.{name}" if name else sheet.stem: figure for name, figure in (figures or {}).items()}
    record = {
        "kind": KIND,
        **asdict(sheet),
        "figures": list(drawn),
        "command": provenance.command_line(),
        "versions": provenance.versions(),
        "commit": provenance.commit(),
        "date": provenance.now(),
    }
    text = json.dumps(_plain(record), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    written = [_write(out / f"{sheet.stem}.json", text), _write(out / f"{sheet.stem}.csv", _csv(sheet))]
    for stem, figure in drawn.items():
        written += save_figure(figure, out, stem)
    written.append(write_page(out))
    for path in written:
        console.print(str(path), style="dim", markup=False, soft_wrap=True)
    return written


def print_sheet(sheet: Sheet, console: Console) -> None:
    """The table as the terminal shows it."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    console.print(f"{sheet.title} · {sheet.subject}", style="bold", markup=False)
    console.print(sheet.lede, style="dim", markup=False)
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(sheet.columns):
        table.add_column(column, no_wrap=True, justify="right" if _numeric(sheet.rows, index) else "left")
    for row in sheet.rows:
        table.add_row(*map(shown, row))
    width = console.width
    console.width = 500  # a narrow terminal wraps lines rather than losing figures
    console.print(table)
    console.width = width
    for note in sheet.notes:
        console.print(note, style="dim", markup=False)


def write_page(out: Path) -> Path:
    """The page of a folder: every sheet in it, with its figures inside the file. Returns the page's path."""
    sheets, problems = read_sheets(out)
    return _write(out / PAGE, to_page(sheets, out, problems))


def read_sheets(out: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """The stored sheets of a folder in the page's order, and a line for each JSON file that cannot be read."""
    found, problems = [], []
    for path in sorted(out.glob("*.json")):
        try:
            record = json.loads(read_regular(path))
            if isinstance(record, dict) and record.get("kind") == KIND:
                _check(record)
                found.append(record)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            problems.append(f"{path.name}: {'.'.join(map(str, first['loc']))}: {first['msg']}")
        except (OSError, ValueError, RecursionError) as error:
            problems.append(f"{path.name}: cannot be read ({error})")
    return sorted(found, key=lambda record: (record["order"], record["name"], record["subject"])), problems


def _check(record: Mapping[str, Any]) -> None:
    """Raises ValueError, which pydantic's error is a kind of, for what no command of the laboratory wrote."""
    sheet = _stored_sheet().validate_python(record)
    if any(len(row) != len(sheet.columns) for row in sheet.rows):
        raise ValueError("its rows have other lengths than its columns")
    if odd := [stem for stem in sheet.figures if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", stem)]:
        raise ValueError(f"'{odd[0][:40]}' is no figure beside it")


@cache
def _stored_sheet() -> TypeAdapter[_StoredSheet]:
    return TypeAdapter(_StoredSheet)


def to_page(sheets: Sequence[Mapping[str, Any]], out: Path, problems: Sequence[str] = ()) -> str:
    """The page as text; figures are read from `out` and put inside. Every value is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent.parent / "report" / "page" / "templates"),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    views = [
        {
            **sheet,
            "pictures": [one for stem in sheet["figures"] if (one := _picture(out, stem))],
            "numeric": [_numeric(sheet["rows"], index) for index in range(len(sheet["columns"]))],
        }
        for sheet in sheets
    ]
    return environment.get_template("laboratory.html.j2").render(sheets=views, problems=problems, shown=shown)


def shown(value: Any) -> str:
    """A cell for people: four significant digits, "–" where there is nothing."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def short(value: float) -> float:
    """Three significant digits, for tables; the data keep all."""
    return float(f"{value:.3g}")


def _numeric(rows: Sequence[Sequence[Any]], index: int) -> bool:
    kinds = {type(row[index]) for row in rows if row[index] is not None}
    return bool(kinds) and kinds <= {int, float}


def _csv(sheet: Sheet) -> str:
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(sheet.columns)
    writer.writerows(["" if cell is None else cell for cell in row] for row in sheet.rows)
    return text.getvalue()


def _plain(value: Any) -> Any:
    """The same without NaN and infinity, which JSON does not have: null and "inf"."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return str(value) if isinstance(value, Path) else value


@dataclass(frozen=True)
class _Picture:
    """A figure as it goes into the page."""

    uri: str
    least: int | None  # CSS pixels that it needs to be read
    paper: bool  # on white, whatever the page is


def _picture(out: Path, stem: str) -> _Picture | None:
    """The figure of this name; None where its files are gone."""
    svg, png = (out / f"{stem}.{kind}" for kind in ("svg", "png"))
    if svg.is_file() and svg.stat().st_size <= SVG_LIMIT:
        text = svg.read_text(encoding="utf-8")
        wide = natural_width(text)
        least = round(READABLE * wide) if wide else None
        return _Picture(_data_uri("image/svg+xml", at_night(text).encode()), least, paper=False)
    return _Picture(_data_uri("image/png", png.read_bytes()), None, paper=True) if png.is_file() else None


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _write(path: Path, text: str) -> Path:
    with writing(path, ResultError, OTHER_OUT):
        write_atomically(path, text.encode())
    return path
