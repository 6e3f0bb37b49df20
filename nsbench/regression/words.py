"""A check in words and rows, the same in every output."""

from __future__ import annotations

from nsbench.regression.records import BaselineCheck, MethodCheck, SuiteCheck, Verdict

HEADS = ("suite", "before", "now", "drop", "lost", "won", "McNemar p", "p", "verdict")


def row(one: SuiteCheck) -> tuple[str, ...]:
    """Cells under HEADS; "p" is with the recorded noise, over the whole check. Rounded as everywhere: one decimal."""
    before, after = one.before, one.after
    if before is None or after is None:
        score = f"{before.score:.1f}" if before else "-"
        return (one.key, score, "-", "-", "-", "-", "-", "-", one.verdict.value)
    return (
        one.key,
        f"{before.score:.1f}",
        f"{after.score:.1f}",
        signed(one.drop),
        str(len(one.lost)),
        str(len(one.won)),
        "-" if one.mcnemar is None else pvalue(one.mcnemar),
        pvalue(one.p_adjusted),
        one.verdict.value,
    )


def signed(drop: float) -> str:
    """A drop with one decimal; never "-0.0"."""
    return f"{drop:+.1f}" if abs(drop) >= 0.05 else "0.0"


def pvalue(p: float) -> str:
    """Three places, or the power of ten that it is below."""
    if p >= 0.001:
        return f"{p:.3f}"
    return f"{p:.0e}" if p >= 1e-15 else "< 1e-15"


def p_words(p: float) -> str:
    """ "p = 0.012", "p < 1e-15"."""
    return f"p {pvalue(p)}" if p < 1e-15 else f"p = {pvalue(p)}"


def headline(check: BaselineCheck) -> str:
    """One sentence: how many suites, and what became of them."""
    counts = ", ".join(f"{count} {verdict.value}" for verdict, count in check.counts.items() if count)
    total = len(check.suites)
    recorded = f" of {check.baseline.recorded[:10]}" if check.baseline.recorded else ""
    whole = "".join(f"; {one.method} {one.verdict.value} on average" for one in told(check))
    return f"{total} suite{'s' if total != 1 else ''} against the baseline{recorded}: {counts}{whole}"


def told(check: BaselineCheck) -> list[MethodCheck]:
    """Methods whose accuracies moved on average."""
    return [one for one in check.methods if one.verdict is not Verdict.OK]


def on_average(one: MethodCheck) -> str:
    """One line on a method whose accuracies moved on average."""
    worse = "dropped" if one.drop >= 0 else "gained"
    return (
        f"{one.verdict.value} on average: its {one.suites} accuracies together {worse} by {abs(one.drop):.1f} points, "
        f"{p_words(one.p_adjusted)}"
    )


def explanation(one: SuiteCheck) -> str:
    """One line on a pair that needs one."""
    if one.verdict is Verdict.INCOMPARABLE:
        return f"incomparable: {one.reason}"
    unit = (
        "points"
        if one.before is None or one.before.definition.unit == "%"
        else f"points of {one.before.definition.unit}"
    )
    worse = "a drop of" if one.drop >= 0 else "a gain of"
    return (
        f"{one.verdict.value}: {worse} {abs(one.drop):.1f} {unit}, {len(one.lost)} of "
        f"{one.n} images lost and {len(one.won)} won, {p_words(one.p_adjusted)}"
    )


OF_WEIGHTS = "compared: these weights with those of the baseline, not methods; another seed may come out otherwise"


def notes(check: BaselineCheck) -> list[str]:
    """What stands below the table: what is compared, changes, averages, moved methods, cost, power."""
    averages = [f"{one.method}: {on_average(one)}" for one in told(check)]
    return [OF_WEIGHTS, *_changes(check), *averages, *_moved(check), *_costs(check), *_power(check)]


def _changes(check: BaselineCheck) -> list[str]:
    by_change: dict[str, list[str]] = {}
    for one in check.suites:
        for change in one.changes:
            by_change.setdefault(change, []).append(one.method)
    return [f"changed: {change} ({', '.join(dict.fromkeys(methods))})" for change, methods in by_change.items()]


def _moved(check: BaselineCheck) -> list[str]:
    if not check.baseline.repeats:
        return ["noise: the baseline holds no same-code repeat, so flips are tested against none"]
    lines = []
    for moved in check.moved:
        rate = f"{moved.flipped} of {moved.images} images have another outcome in some suite"
        repeat = f"{moved.repeat_flipped} of {moved.repeat_images} in the same-code repeat"
        word = "moved" if moved.moved else "not moved"
        lines.append(f"{word}: {moved.method}: {rate} ({repeat}; p = {pvalue(moved.p_holm)})")
    return lines


def _costs(check: BaselineCheck) -> list[str]:
    return [
        f"{cost.what}: {cost.ratio:.2f} x the baseline's, each as ratio to the reference workload of its own run"
        + (f"; beyond the limit of {cost.limit:g}" if cost.exceeded else "")
        for cost in check.costs
    ]


def _power(check: BaselineCheck) -> list[str]:
    tested = [c for c in check.suites if c.after is not None]
    drops = sorted(c.detectable for c in tested if c.detectable is not None)
    never = [c.key for c in tested if c.detectable is None]
    lines = []
    if drops:
        sizes = sorted({c.n for c in tested})
        images = f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,} to {sizes[-1]:,}"
        span = f"{drops[0]:.1f}" if drops[-1] - drops[0] < 0.05 else f"{drops[0]:.1f} to {drops[-1]:.1f}"
        lines.append(
            f"power: with {images} images a suite and {len(tested)} tests at {100 * check.rules.alpha:g} % "
            f"in all, a drop of {span} points in one suite is found with 80 % probability if only noise wins images"
        )
    if never:
        lines.append(f"power: no drop can be found in {', '.join(never)}: too few images are right to be lost")
    return lines
