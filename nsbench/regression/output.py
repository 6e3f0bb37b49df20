"""A check as plain text, Markdown for a pull request, GitHub annotations and JSON. Every name is escaped."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from nsbench import __version__
from nsbench.regression.records import BaselineCheck, SuiteCheck, Verdict
from nsbench.regression.words import HEADS, explanation, headline, notes, on_average, row, told

MARKS = {Verdict.OK: "✓", Verdict.IMPROVED: "▲", Verdict.REGRESSED: "✗", Verdict.INCOMPARABLE: "≠"}
ALIGNED = "lrrrrrrrl"  # of HEADS


def to_text(check: BaselineCheck) -> str:
    """A table with notes, for a terminal or a log."""
    rows = [HEADS, *(tuple(map(logged, row(one))) for one in check.suites)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if side == "l" else cell.rjust(width)
            for cell, width, side in zip(cells, widths, ALIGNED, strict=True)
        ).rstrip()
        for cells in rows
    ]
    reasons = [logged(f"{c.key}: {c.reason}") for c in check.suites if c.reason]
    return "\n".join([*lines, *reasons, *map(logged, notes(check)), logged(headline(check))]) + "\n"


def to_markdown(check: BaselineCheck) -> str:
    """A summary for a pull request: what matters first, the whole table folded below."""
    marked = [c for c in check.suites if c.verdict is not Verdict.OK]
    moved = [m.method for m in check.moved if m.moved]
    outcome = "failed" if check.exit_status else "passed"
    lines = [f"### nsbench check: {outcome}", "", f"{markdown(headline(check))}.", ""]
    lines += [f"- {MARKS[c.verdict]} {code(c.key)}: {markdown(explanation(c))}" for c in marked]
    lines += [f"- {MARKS[one.verdict]} {code(one.method)}: {markdown(on_average(one))}" for one in told(check)]
    lines += [f"- outcomes of {code(method)} moved beyond the recorded noise" for method in moved]
    lines += [
        "",
        "<details><summary>All suites</summary>",
        "",
        f"| {' | '.join(HEADS)} |",
        f"|{'|'.join('---:' if side == 'r' else '---' for side in ALIGNED)}|",
    ]
    for one in check.suites:
        key, *cells = row(one)
        lines.append(f"| {' | '.join([code(key), *map(markdown, cells)])} |")
    lines += ["", *(f"- {markdown(note)}" for note in notes(check)), "", "</details>"]
    return "\n".join(lines) + "\n"


def to_annotations(check: BaselineCheck) -> list[str]:
    """GitHub's workflow commands: an error for what regressed or cannot be compared, a notice for what improved."""
    commands = {Verdict.REGRESSED: "error", Verdict.INCOMPARABLE: "error", Verdict.IMPROVED: "notice"}
    lines = [_annotation(commands[c.verdict], c.key, explanation(c)) for c in check.suites if c.verdict in commands]
    lines += [_annotation(commands[one.verdict], one.method, on_average(one)) for one in told(check)]
    level = "error" if check.rules.strict else "notice"
    lines += [
        _annotation(
            level,
            m.method,
            f"moved: {m.flipped} of {m.images} images have another outcome, more than the same code gives",
        )
        for m in check.moved
        if m.moved
    ]
    return lines + [
        _annotation("error", cost.what, f"{cost.ratio:.2f} x the baseline's, beyond {cost.limit:g}")
        for cost in check.costs
        if cost.exceeded
    ]


def _annotation(command: str, title: str, message: str) -> str:
    title = _percent(title).replace(":", "%3A").replace(",", "%2C")
    return f"::{command} title=nsbench check%3A {title}::{_percent(message)}"


def _percent(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def to_json(check: BaselineCheck) -> str:
    """Everything, for programs."""
    record: dict[str, Any] = {
        "nsbench": __version__,
        "failed": check.failed,
        "exit_status": check.exit_status,
        "rules": asdict(check.rules),
        "counts": {verdict.value: n for verdict, n in check.counts.items()},
        "baseline": {
            "recorded": check.baseline.recorded,
            "commit": check.baseline.commit,
            "repeats": check.baseline.repeats,
            "options": dict(check.baseline.options),
        },
        "comparisons": [_suite_record(one) for one in check.suites],
        "methods": [asdict(one) for one in check.methods],
        "moved": [asdict(moved) for moved in check.moved],
        "costs": [asdict(cost) | {"exceeded": cost.exceeded} for cost in check.costs],
        "notes": notes(check),
    }
    return json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False, default=str) + "\n"


def _suite_record(one: SuiteCheck) -> dict[str, Any]:
    before, after = one.before, one.after
    record: dict[str, Any] = {"pair": one.key, "verdict": one.verdict.value, "reason": one.reason}
    if before is not None:
        record |= {
            "source": before.source,
            "model": before.model,
            "method": before.method,
            "suite": before.suite,
            "seed": before.seed,
            "unit": before.definition.unit,
            "before": before.score,
            "n": one.n,
            "noise": asdict(before.noise),
        }
    if after is not None:
        record |= {
            "now": after.score,
            "drop": one.drop,
            "lost": one.lost.tolist(),
            "won": one.won.tolist(),
            "mcnemar_p": one.mcnemar,
            "p": one.p,
            "p_holm": one.p_adjusted,  # named so since the first version; no longer Holm's alone
            "detectable_drop": one.detectable,
            "changes": list(one.changes),
        }
    return record


def plain(text: str) -> str:
    """On one line, without control characters, which could move the cursor of a terminal or forge a line of a log."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def logged(text: str) -> str:
    """The same, and nothing that GitHub Actions takes for a command when it reads the log."""
    return plain(text).replace("::", ": :").replace("##[", "## [")


def markdown(text: str) -> str:
    """Text that Markdown shows as it is, in a table's cell too: punctuation as character references."""
    return "".join(letter if letter.isalnum() or letter in " .,-+" else f"&#{ord(letter)};" for letter in plain(text))


def code(text: str) -> str:
    """A name in code type, where GitHub makes no link of @names, #numbers and addresses."""
    return f"<code>{markdown(text)}</code>"
