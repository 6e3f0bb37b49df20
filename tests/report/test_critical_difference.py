"""Ranks over suites: the leaderboard's against scipy, and the diagram's geometry."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from boards import N, only_table, store
from scipy.stats import friedmanchisquare, studentized_range

from nsbench.leaderboard import CriticalDifference
from nsbench.report.page.diagrams import MOST, caption, diagram
from nsbench.report.plots import Look, Ranks

SUITES = ("clean", "fgsm", "cw", "imagenet_r", "imagenet_sketch")


def drawn(found, **known):
    looks = [known.get(label, Look(0)) for label in found.labels]
    return ElementTree.fromstring(f'<g xmlns:x="x">{diagram(Ranks(found, looks))}</g>')[0]


def dots(svg):
    return [float(circle.get("cx")) for circle in svg.iter("circle")]


def bars(svg):
    """Ends of each clique's bar."""
    return [
        tuple(map(float, re.fullmatch(r"M([\d.]+) [\d.]+H([\d.]+)", path.get("d")).groups()))
        for path in svg.iter("path")
        if path.get("class") == "clique"
    ]


def made(folder, hits):
    """A table of rows x suites with these numbers of right images."""
    for index, mine in enumerate(hits):
        for suite, count in zip(SUITES, mine, strict=False):
            store(folder, f"m{index}", suite, np.arange(N) < count)
    return only_table(folder)


def test_ranks_and_the_critical_difference_are_those_of_scipy(tmp_path):
    hits = np.random.default_rng(4).integers(20, 100, (6, 5)) + 20 * np.arange(6)[:, None]
    found = made(tmp_path, hits).critical
    statistic, p = friedmanchisquare(*hits)
    assert found.p == pytest.approx(p)
    ranks = dict(zip(found.labels, found.ranks, strict=True))
    average = [ranks[f"m{index}"] for index in range(6)]
    assert 12 * 5 / (6 * 7) * sum((rank - 3.5) ** 2 for rank in average) == pytest.approx(statistic)
    assert found.difference == pytest.approx(studentized_range.ppf(0.95, 6, np.inf) / 2**0.5 * (6 * 7 / (6 * 5)) ** 0.5)


def test_no_pair_is_claimed_where_friedman_finds_nothing(tmp_path):
    table = made(tmp_path, [[100, 50, 75], [50, 75, 100], [75, 100, 50]])
    assert table.critical.ranks == (2, 2, 2)
    assert table.critical.cliques == ((0, 1, 2),)
    assert "Friedman's test finds no difference" in caption(table.critical, table)
    assert "p = 1.000" in caption(table.critical, table)


@pytest.mark.parametrize("shape", [(2, 5), (5, 2)])
def test_fewer_than_three_rows_or_suites_have_none(tmp_path, shape):
    assert made(tmp_path, np.arange(np.prod(shape)).reshape(shape) + 50).critical is None


def test_dots_stand_at_their_ranks_and_bars_join_cliques():
    found = CriticalDifference(
        ("a", "b", "c"), ("w", "x", "y", "z"), (1.0, 2.0, 3.0, 4.0), 1.5, 0.01, ((0, 1), (1, 2), (2, 3))
    )
    svg = drawn(found, w=Look(3))
    x = dots(svg)
    assert np.diff(x) == pytest.approx([x[1] - x[0]] * 3, abs=0.02)
    assert [(start < x[i], end > x[j]) for (start, end), (i, j) in zip(bars(svg), found.cliques, strict=True)] == [
        (True, True)
    ] * 3
    ruler = next(path.get("d") for path in svg.iter("path") if path.get("class") == "ruler")
    start, end = map(float, re.search(r"M([\d.]+) 15H([\d.]+)", ruler).groups())
    assert end - start == pytest.approx(1.5 * (x[1] - x[0]), abs=0.2)
    texts = ["".join(text.itertext()).strip() for text in svg.iter("text")]
    assert {"CD 1.50", "w 1.00", "4.00 z"} <= set(texts)
    assert next(circle.get("class") for circle in svg.iter("circle")) == "k3 dot"


def test_a_crowd_is_cut_and_names_are_text():
    k = 40
    names = ("<script>alert(1)</script>", *(f"m{i}" for i in range(1, k)))
    found = CriticalDifference(
        ("a", "b", "c"),
        names,
        tuple(float(i + 1) for i in range(k)),
        3.0,
        0.001,
        tuple((i, i + 3) for i in range(0, k - 3, 3)),
    )
    svg = drawn(found)
    assert len(dots(svg)) == MOST
    assert not list(svg.iter("script"))
    assert max(end for _, end in bars(svg)) <= max(dots(svg)) + 5
