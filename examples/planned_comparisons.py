"""Comparisons that were planned before anybody looked: one family, one correction.

    python examples/planned_comparisons.py PLAN.toml

A leaderboard tests every pair of its rows, and corrects for all of them. Who has a question of his own asks less: a few
pairs of rows, perhaps of several boards. The plan names them, and may name columns; each column that both rows have is
one test, on the same images and over trainings, and Holm's correction is over all tests of the plan. Prints a Markdown
table.

    [[comparison]]
    name = "larger epsilon"
    results = "reports/showcase/does_ns_help/results"   # relative to the plan
    first = "NS (epsilon = 0.1)"                        # labels as `nsbench show` prints them
    second = "finetune"
    columns = ["average", "imagenet_c"]                 # without it: every column
"""

import sys
import tomllib
from pathlib import Path

import nsbench as nb
from nsbench.leaderboard import compare
from nsbench.statistics import holm


def planned(path):
    """[(name, [RowComparison])] of a plan; one comparison for each column that both rows have."""
    found = []
    plan = tomllib.loads(path.read_text())["comparison"]
    folders = {one["results"] for one in plan}
    boards = {folder: nb.leaderboard(nb.read_results(path.parent / folder)).board for folder in folders}
    for one in plan:
        tables = [table for table in boards[one["results"]].tables if one.get("model", table.model) == table.model]
        if len(tables) != 1:
            raise SystemExit(f"{one['name']}: {len(tables)} tables; say which with: model = ...")
        columns = compare(tables[0], one["first"], one["second"])
        found.append((one["name"], [each for each in columns if each.suite in one.get("columns", [each.suite])]))
    return found


def main(plan):
    comparisons = planned(plan)
    tests = [(name, one) for name, columns in comparisons for one in columns]
    adjusted = holm([one.delta.p for _, one in tests])
    print(f"{len(tests)} tests, {sum(adjusted <= 0.05)} of them told apart after Holm.\n")
    print("| comparison | column | difference | 95 % interval | p | p after Holm |\n|---|---|---|---|---|---|")
    for (name, one), p in zip(tests, adjusted, strict=True):
        own = one.delta
        interval = f"{own.low:+.1f} to {own.high:+.1f}"
        print(f"| {name} | {one.suite} | {own.value:+.1f} | {interval} | {own.p:.2g} | {p:.2g} |")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
