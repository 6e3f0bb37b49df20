"""The paper's rows below ours: a difference only where both are of the same model and of all images."""

import made
import pytest

from nsbench import report
from nsbench.leaderboard import build
from nsbench.report.studies import study_views
from nsbench.run.study import load_study
from nsbench.types import Score

STUDY = load_study("table3")
PATTERN = "so only the pattern can be compared"


def board(source="imagenet", model="vit_small_patch16_224", n=50_000):
    results = [
        made.result(
            source=source,
            model=model,
            method=method,
            suite=suite,
            score=Score(50.0, 49.0, 51.0, n),
            conditions=(made.condition(suite, n=n),),
            recipe=None if method == "pretrained" else made.recipe(),
            method_role="untouched" if method == "pretrained" else "",
            identity=f"{method}{suite}",
        )
        for method in STUDY.methods
        for suite in ("clean", "fgsm")
    ]
    return build(results)


def section(made_board):
    text = report.to_html(made_board)
    start = text.index('<h3 id="t0-study-table3">')
    return text[start : text.index("<h3 ", start + 10)]


def test_the_same_model_on_all_images_has_differences():
    text = section(board())
    assert text.count('<th scope="row">difference</th>') == len(STUDY.methods) - 1  # it has no control
    assert PATTERN not in text
    assert ", on ImageNet. Its baselines were trained" in text


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"n": 650}, "images"),
        ({"model": "vit_tiny_patch16_224"}, "models"),
        ({"source": "shapes10", "model": "vit_shapes10"}, "images and models"),
    ],
)
def test_another_model_or_fewer_images_have_the_pattern_alone(changes, what):
    text = section(board(**changes))
    assert '<th scope="row">difference</th>' not in text
    assert f"on ImageNet. It has not the {what} of this table, {PATTERN}. Its baselines were trained" in text


def test_it_is_said_of_every_line():
    (view,) = study_views(board(n=650).tables[0])
    assert view.not_theirs == "images"
    assert all(line.difference(column) is None for line in view.lines for column in view.columns)
