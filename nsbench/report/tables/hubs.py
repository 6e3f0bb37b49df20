"""Rows in the formats of others: Hugging Face's model cards, RobustBench's model_info, and a badge.

Model cards: https://github.com/huggingface/hub-docs, modelcard.md. model_info: https://github.com/RobustBench/robustbench,
README, "Adding a new model"; figures there are percentages as text.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from nsbench.leaderboard import AVERAGE, Cell, Column, Leaderboard, Row, Table
from nsbench.report.numbers import average_column, budget, figure, margin, rank
from nsbench.report.side_columns import clean_column
from nsbench.results.record import About

SAFE = ":/?#@!$&*+,;=%~._-"  # of an address inside a Markdown link: brackets are quoted
AUTOATTACK = "autoattack"  # name of the attack that RobustBench's threat "Linf" asks for
LABEL, VALUE = "nsbench robustness", 6.6  # words of the badge; width of a character in px


# --- Hugging Face ---------------------------------------------------------------------------------------------------


def to_huggingface(board: Leaderboard) -> dict[str, str]:
    """A model card for every row, by path, model_cards/<table>/<row>.md: metadata with a `model-index`, and a table."""
    cards = {}
    for table in board.tables:
        for row in table.rows:
            if results := _evaluations(table, row):
                path = f"model_cards/{slug(f'{table.source} {table.image_set}')}/{slug(row.label)}.md"
                cards[path] = _card(table, row, results)
    return cards


def _card(table: Table, row: Row, results: list[dict[str, Any]]) -> str:
    metadata = {
        "tags": ["image-classification", "robustness", "nsbench"],
        "pipeline_tag": "image-classification",
        "model-index": [{"name": row.label, "results": results}],
    }
    head = ["---", *_yaml(metadata, 0), "---"]
    lines = [f"| {_plain(one['metrics'][0]['name'])} | {one['metrics'][0]['value']} |" for one in results]
    images = _plain(f"{table.source}, {table.image_set}")
    body = [f"# {_plain(row.label)}", "", f"Measured by nsbench on {images}.", "", *_credit(row), "| metric | value |"]
    body.append("|---|---:|")
    return "\n".join([*head, "", *body, *lines]) + "\n"


def _credit(row: Row) -> list[str]:
    """Whose the row is, as its author states it; addresses are those of the web alone."""
    about = row.results[0].provenance.about
    if about is None:
        return []
    words = [_plain(text) for text in (about.title, ", ".join(about.authors), about.licence, about.date) if text]
    links = [f"[{what}]({quote(address, safe=SAFE)})" for what, address in _links(about)]
    return [" · ".join([*words, *links]), ""]


def _links(about: About) -> list[tuple[str, str]]:
    found = (("paper", about.paper), ("code", about.code), ("weights", about.weights))
    return [(what, address) for what, address in found if address]


def _evaluations(table: Table, row: Row) -> list[dict[str, Any]]:
    columns = [*table.columns, average_column(table)]
    return [
        _evaluation(table, column, cell) for column in columns if (cell := row.cell(column.suite)) and cell.comparable
    ]


def _revision(cell: Cell) -> str:
    """The digest of the images, ids and labels of a figure, over its conditions; "unknown" for one without results."""
    digests = sorted({one.data_digest for result in cell.results for one in result.conditions})
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()[:16] if digests else "unknown"


def _plain(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return "".join(c if c.isalnum() or c in " .,-+" else f"&#{ord(c)};" if c.isprintable() else " " for c in text)


def _evaluation(table: Table, column: Column, cell: Cell) -> dict[str, Any]:
    splits = [one.split.split("/")[0] for one in cell.results[0].conditions] if cell.results else []
    metric = {
        "type": "mce" if column.lower_is_better else "accuracy",
        "value": round(cell.value, 4),
        "name": f"{column.title} ({'mean corruption error' if column.lower_is_better else 'top-1 accuracy, %'})",
        "args": {
            "low": round(cell.low, 4),
            "high": round(cell.high, 4),
            "n": cell.n,
            "seeds": list(cell.seeds),
            "interval": _drawn(cell),
            "suite_version": column.version,
        }
        | ({} if cell.deviation is None else {"seed_deviation": round(cell.deviation, 4)}),
    }
    dataset = {
        "name": f"{table.source} {column.title}",
        "type": table.source,
        "config": column.suite,
        "split": ", ".join(dict.fromkeys(splits)) or "all",
        "revision": _revision(cell),
    }
    return {
        "task": {"type": "image-classification", "name": "Image Classification"},
        "dataset": dataset,
        "metrics": [metric],
    }


def _drawn(cell: Cell) -> str:
    """What the interval of a figure takes as drawn."""
    return f"95 % over images{' and trainings' if len(cell.seeds) > 1 else ''}"


def _yaml(value: Any, depth: int) -> list[str]:
    """Block style; every string is quoted, so that no name can be anything but a string."""
    pad = "  " * depth
    if isinstance(value, dict):
        lines = []
        for key, inner in value.items():
            nested = isinstance(inner, (dict, list)) and inner
            lines += [f"{pad}{key}:", *_yaml(inner, depth + 1)] if nested else [f"{pad}{key}: {_scalar(inner)}"]
        return lines
    lines = []
    for inner in value:
        first, *rest = _yaml(inner, depth + 1) if isinstance(inner, dict) else [f"{pad}  {_scalar(inner)}"]
        lines += [f"{pad}- {first[len(pad) + 2 :]}", *rest]
    return lines


def _scalar(value: Any) -> str:
    if not isinstance(value, str):
        return json.dumps(value)
    quoted = json.dumps(value, ensure_ascii=False)
    return "".join(c if c.isprintable() else f"\\U{ord(c):08X}" for c in quoted)


# --- RobustBench ----------------------------------------------------------------------------------------------------


def to_robustbench(board: Leaderboard) -> dict[str, str]:
    """Files by path, model_info/<dataset>/<threat>/<row>.json, for rows with clean accuracy and what a threat asks for.

    Threat "corruptions" needs the column of mean corruption errors; "Linf" needs an AutoAttack column.
    """
    files = {}
    for table in board.tables:
        clean = clean_column(table)
        for row in table.rows:
            for threat, figures in _threats(table, row).items():
                cell = row.cells.get(clean.suite) if clean else None
                if cell is not None and cell.comparable:
                    path = f"model_info/{slug(table.source)}/{threat}/{slug(row.label)}.json"
                    info = _model_info(table, row, cell, figures)
                    files[path] = json.dumps(info, indent=2, ensure_ascii=False) + "\n"
    return files


def _threats(table: Table, row: Row) -> dict[str, dict[str, str | None]]:
    found: dict[str, dict[str, str | None]] = {}
    for column in table.columns:
        cell = row.cells.get(column.suite)
        if cell is None or not cell.comparable:
            continue
        if column.unit == "mCE" and (error := cell.extra("mean error")) is not None:
            found["corruptions"] = {
                "eps": None,
                "corruptions_acc": f"{100 - error:.2f}",
                "corruptions_mce": f"{cell.value:.2f}",
            }
        first = cell.results[0].conditions[0]
        if first.attack == AUTOATTACK and first.threat is not None and first.threat.norm == "linf":
            found["Linf"] = {"eps": budget(first.threat), "autoattack_acc": f"{cell.value:.2f}"}
    return found


def _model_info(table: Table, row: Row, clean: Cell, figures: dict[str, str | None]) -> dict[str, Any]:
    seeds = f"seeds {', '.join(map(str, clean.seeds))}" if len(clean.seeds) > 1 else f"seed {clean.seeds[0]}"
    about = clean.results[0].provenance.about or About()
    return {
        "link": about.paper or about.code or None,
        "name": row.label,
        "authors": ", ".join(about.authors) or None,
        "additional_data": None,
        "number_forward_passes": 1,
        "dataset": table.source,
        "venue": None,
        "architecture": row.model,
        "clean_acc": f"{clean.value:.2f}",
        "reported": None,
        **figures,
        "footnote": f"Measured by nsbench: {clean.n:,} clean images ({table.image_set}), {seeds}; clean accuracy "
        f"{clean.low:.2f} to {clean.high:.2f} (95 % interval).",
    }


def slug(name: str) -> str:
    """A file name for a row's name: letters, digits, dash and underscore. Names stay apart."""
    plain = re.sub(r"[^A-Za-z0-9_]+", "-", name).strip("-")[:80]
    if plain == name:
        return plain
    return f"{plain or 'row'}-{hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()[:8]}"


# --- badge ----------------------------------------------------------------------------------------------------------


def to_badges(board: Leaderboard) -> dict[str, str]:
    """An SVG for every row with an average, by path, badges/<table>-<row>.svg."""
    return {
        f"badges/{slug(f'{table.source} {table.image_set}')}/{slug(row.label)}.svg": badge(row)
        for table in board.tables
        for row in table.rows
        if row.cell(AVERAGE)
    }


def badge(row: Row) -> str:
    """A badge for a README: the average with its interval, and the rank range."""
    cell = row.cell(AVERAGE)
    words = "–" if cell is None else f"{figure(cell.value)} {margin(cell)}"
    place = f" · rank {rank(row)}" if row.rank else ""
    left, right = math.ceil(len(LABEL) * VALUE) + 14, math.ceil(len(words + place) * VALUE) + 14
    return str(
        Markup(
            '<svg xmlns="http://www.w3.org/2000/svg" width="{w}" height="20" role="img" aria-label="{label}: {text}">'
            "<title>{name}: {label} {text}</title>"
            '<clipPath id="r"><rect width="{w}" height="20" rx="3"/></clipPath><g clip-path="url(#r)">'
            '<rect width="{left}" height="20" fill="#333"/>'
            '<rect x="{left}" width="{right}" height="20" fill="#00547f"/></g>'
            '<g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11" text-anchor="middle">'
            '<text x="{a}" y="14" textLength="{la}">{label}</text><text x="{b}" y="14" textLength="{lb}">{text}</text>'
            "</g></svg>\n"
        ).format(
            w=left + right,
            left=left,
            right=right,
            a=left / 2,
            b=left + right / 2,
            la=left - 14,
            lb=right - 14,
            label=LABEL,
            text=words + place,
            name=_printable(row.label),
        )
    )


def _printable(text: str) -> str:
    """XML knows no control characters, not even escaped."""
    return "".join(character if character.isprintable() else " " for character in text)
