"""Settings of a method's own: named on the command line, part of the key, kept with the result, shown with the row."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Literal

import pytest
from test_include import nsbench

from nsbench.errors import UnknownName, UsageError
from nsbench.leaderboard import build
from nsbench.registry.registries import method, methods
from nsbench.results import read_results
from nsbench.run.own_settings import of_recipe, require_known, with_settings
from nsbench.run.study import fits
from nsbench.types import OwnSetting

MINE = """
import nsbench as nb


@nb.method(title="Scaled", citation="this file")
def scaled(model, train, recipe, *, strength=1.0, times: int = 1, **run):
    \"\"\"The loss times the strength.

    Not a part of the summary.
    \"\"\"

    def losses(model, images, targets, criterion):
        return {"scaled": strength * times * criterion(model(images), targets)}

    return nb.finetune(model, train, recipe, losses=losses, **run)
"""
RUN = ("run", "--include", "mine.py", "--method", "scaled", "--suite", "clean", "--limit", "20", "--recipe", "quick")


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(methods, "_items", {})

    @method(title="A", citation="")
    def a(model, train, recipe, *, rho: float = 0.2, kind: Literal["x", "y"] = "x", start=None, **run) -> None:  # type: ignore[no-untyped-def]
        """A."""

    @method(title="B", citation="")
    def b(model, train, recipe, *, tile: int | None = None, **run) -> None:  # type: ignore[no-untyped-def]
        """B."""


@pytest.mark.usefixtures("registered")
def test_values_have_the_type_that_the_function_states() -> None:
    given = with_settings(methods["a+b"], {"a.rho": "1e-1", "a.kind": "x", "b.tile": "3", "rounds": "5"})
    assert [dict(part.given) for part in given.parts] == [{"rho": 0.1}, {"tile": 3}]  # kind is the default
    assert given.own == {
        "a.rho": OwnSetting(0.1, 0.2),
        "a.kind": OwnSetting("x", "x"),
        "b.tile": OwnSetting(3, None),
    }
    assert of_recipe({"a.rho": "1", "rounds": "5"}) == {"rounds": "5"}


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"a.rhow": "1"}, UnknownName, "setting of a 'rhow'"),
        ({"a.start": "1"}, UnknownName, "start"),
        ({"c.rho": "1"}, UnknownName, "method 'c'"),
        ({"b.tile": "3"}, UsageError, "--set b.tile=3: b is not among the methods of this run, a"),
        ({"a.rho": "large"}, UsageError, "--set a.rho=large: Input should be a valid number"),
        ({"a.kind": "z"}, UsageError, "--set a.kind=z: Input should be 'x' or 'y'"),
    ],
)
def test_what_cannot_be_is_one_line(settings: dict[str, str], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        require_known(settings, ["a"])


def test_a_changed_setting_is_another_row_with_other_weights_and_a_default_one_is_not(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        done = nsbench(tmp_path, *RUN, *words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    run()
    assert "1 held already" in run("--set", "scaled.strength=1").stdout
    assert "1 done" in run("--set", "scaled.strength=2.5", "--set", "lr=1e-4").stdout
    assert "1 done" in run("--set", "scaled.strength=2.5").stdout
    results, problems = read_results(tmp_path / "reports" / "results")
    assert (len(results), problems) == (3, [])
    (table,) = build(results).tables
    assert sorted(row.qualifiers for row in table.rows) == [
        ("lr 1e-05",),
        ("strength 2.5", "lr 0.0001"),
        ("strength 2.5", "lr 1e-05"),
    ]
    assert len({one.provenance.weights_digest for one in results}) == 3
    for one in results:
        assert one.provenance.own_settings["scaled.times"] == OwnSetting(1, 1)
        assert one.method_summary == "The loss times the strength."
        strength = one.provenance.own_settings["scaled.strength"].value
        assert fits(one.provenance, {"scaled.strength": strength, "other.x": 3})
        assert not fits(one.provenance, {"scaled.strength": 7})


def test_a_wrong_setting_is_told_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    done = nsbench(tmp_path, *RUN, "--data", "nowhere", "--set", "scaled.times=1.5")
    assert (done.returncode, "scaled.times=1.5: Input should be a valid integer" in done.stderr) == (2, True)
    assert not (tmp_path / "reports").exists()
