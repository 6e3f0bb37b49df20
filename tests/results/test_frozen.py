"""Results that older versions wrote, kept as they were: every one of them is still read, compared and shown."""

import io
import json
import re
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from nsbench import report
from nsbench.errors import ResultError
from nsbench.leaderboard import build
from nsbench.leaderboard.samples import Album
from nsbench.report import FORMATS
from nsbench.results import SCHEMA, read_outcomes, read_result, read_results, upgrades
from nsbench.results.comparability import image_set
from nsbench.results.reader import OutcomesReader
from nsbench.types import ThreatModel

FROZEN = Path(__file__).parents[1] / "frozen"
DAMAGENET_BUDGET = ThreatModel("linf", 25.5 / 255)
FOLDERS = sorted(folder.name for folder in FROZEN.iterdir())
FIGURES = {  # by suite, as they were printed when they were written
    "schema1_first": {"clean": "87.5", "fgsm": "31.2", "imagenet_c": "69.2"},
    "schema1_samples": {"clean": "93.8", "cw": "4.7"},
    "schema2_first": {"clean": "93.8", "fgsm": "68.8", "imagenet_c": "55.2"},
    "schema2_roles": {"clean": "93.8", "fgsm": "68.8", "imagenet_c": "55.2", "damagenet": "62.5", "transfer": "0.0"},
    "schema3_first": {"clean": "96.0", "imagenet_a": "33.2"},
    "schema3_names": {"clean": "75.0", "imagenet_c_severity3": "55.8"},
    "schema4_first": {"clean": "62.5", "imagenet_c_severity3": "63.3"},
}


def test_every_schema_is_here():
    assert {int(re.match(r"schema(\d+)_", name)[1]) for name in FOLDERS} == set(range(1, SCHEMA + 1))
    assert set(FOLDERS) == set(FIGURES)
    for path in FROZEN.rglob("*.json"):
        assert json.loads(path.read_text())["schema"] == int(path.relative_to(FROZEN).parts[0][6])


@pytest.mark.parametrize("name", FOLDERS)
def test_old_results_are_read_and_compared_image_by_image(name):
    results, problems = read_results(FROZEN / name)
    assert not problems
    assert {result.suite: f"{result.score.value:.1f}" for result in results} == FIGURES[name]
    (table,) = build(results).tables
    assert {cell.unpaired for row in table.rows for cell in row.cells.values()} == {""}
    for result in results:
        for condition, outcomes in zip(result.conditions, read_outcomes(result).values(), strict=True):
            assert 100 * outcomes.correct.mean() == pytest.approx(condition.accuracy, abs=1e-3)
            assert (outcomes.top5 is None) == (result.outcomes_format == "npz")


def test_what_schema_1_kept_as_text_is_what_schema_2_states():
    """An upgraded result and one that was written in schema 2 say the same of the same suite."""
    old, new = (
        {result.suite: result for result in read_results(FROZEN / name)[0] if result.method_role == "untouched"}
        for name in ("schema1_first", "schema2_roles")
    )
    for suite in ("clean", "fgsm", "imagenet_c"):
        assert old[suite].score.made_of == new[suite].score.made_of
        for one, other in zip(old[suite].conditions, new[suite].conditions, strict=True):
            assert (one.name, one.split, one.attack, one.threat) == (
                other.name,
                other.split,
                other.attack,
                other.threat,
            )
    assert new["damagenet"].conditions[0].beforehand == DAMAGENET_BUDGET
    assert ThreatModel(**upgrades.DAMAGENET_BUDGET) == DAMAGENET_BUDGET  # fields that came later hold their defaults
    assert {one.surrogate_digest for one in new["transfer"].conditions} == {new["clean"].provenance.parent_digest}


def test_flags_and_rounds_of_schema_2_are_read():
    results, _ = read_results(FROZEN / "schema2_roles")
    (trained,) = [result for result in results if result.method_role == "subject"]
    (one,) = trained.provenance.history
    assert set(one.accuracies) == {"clean", "fgsm", "imagenet_r"}
    assert one.noise is not None
    assert one.noise.norm > 1
    (table,) = build(results).tables
    assert {flag.name for row in table.rows for flag in row.flags} == {"judged on its own transfer set"}


@pytest.mark.parametrize("name", FOLDERS)
def test_old_results_render_in_every_format(name, tmp_path):
    written = report.render_formats(FROZEN / name, tmp_path, FORMATS)
    console = Console(file=io.StringIO(), width=200)
    report.print_tables(report.read_board(FROZEN / name), console)
    for text in (
        console.file.getvalue(),
        *(next(p for p in written if p.suffix == s).read_text() for s in (".html", ".md", ".tex")),
    ):
        for figure in FIGURES[name].values():
            assert figure in text


def test_a_whole_set_under_a_limit_says_so():
    results, _ = read_results(FROZEN / "schema3_first")
    found = {result.suite: (image_set(result).limit, result.conditions[0].available) for result in results}
    assert found == {"clean": (500, 1000), "imagenet_a": (None, 500)}


@pytest.mark.parametrize("name", ["schema3_names", "schema4_first"])
def test_images_are_known_by_their_canonical_ids(name):
    """Before schema 4 outcomes named images by their files: n01440764/ILSVRC2012_val_00000293.JPEG."""
    results, _ = read_results(FROZEN / name)
    for result in results:
        assert result.image_ids == ("names" if name == "schema3_names" else "canonical")
        ids = [one.ids for one in read_outcomes(result).values()]
        ids += [one.images.ids for one in OutcomesReader().rows(result).values()]
        assert all(re.fullmatch(r"ILSVRC2012_val_\d{8}", image_id) for mine in ids for image_id in mine)


def test_ids_of_an_embedded_source_are_no_names_of_files():
    results, _ = read_results(FROZEN / "schema3_first")
    (clean,) = [result for result in results if result.suite == "clean"]
    assert set(read_outcomes(clean)["clean"].ids) >= {"clean/00002"}


def test_old_samples_are_shown():
    (table,) = build(*read_results(FROZEN / "schema1_samples")).tables
    album = Album(table)
    (gallery,) = album.galleries(table.rows[0], "cw")
    assert all(one.change and one.adversarial and one.l2 is not None for one in gallery.pictures)
    assert not album.problems
    (old,) = build(*read_results(FROZEN / "schema1_first")).tables
    assert Album(old).galleries(old.rows[0], "clean") == []


def test_a_half_written_file_is_named_and_the_rest_is_shown(tmp_path):
    folder = tmp_path / "results"
    shutil.copytree(FROZEN / "schema1_first", folder)
    half = next(folder.rglob("fgsm.seed0.json"))
    half.write_text(half.read_text()[:900])
    page = report.render(folder, tmp_path / "index.html").read_text()
    console = Console(file=io.StringIO(), width=400)
    report.print_tables(report.read_board(folder), console)
    for text in (page, console.file.getvalue()):
        assert "fgsm.seed0.json" in text
        assert "is no complete result" in text
        assert "87.5" in text


def test_an_old_result_without_conditions_is_one_line(tmp_path):
    record = json.loads((FROZEN / "schema1_first/shapes10/vit_shapes10/pretrained/clean.seed0.json").read_text())
    path = tmp_path / "clean.seed0.json"
    path.write_text(json.dumps(record | {"conditions": []}))
    with pytest.raises(
        ResultError, match=r"clean\.seed0\.json: is no complete result \(ValueError: it has no conditions\)"
    ):
        read_result(path)
