"""Each change of a results folder is named by `submit check`, or only a re-run can tell."""

import re
from pathlib import Path

import pytest
from submissions import N, only, problems
from tampering import TABLE, archived, find, honest

from nsbench.results import read_outcomes
from nsbench.submission import check_archive


def test_the_honest_folder_has_no_problem(tmp_path):
    checked = check_archive(archived(honest(tmp_path / "results"), tmp_path / "x.zip"))
    assert (checked.problems, checked.unknown, len(checked.results)) == ((), (), 8)


@pytest.mark.parametrize("tampering", TABLE, ids=lambda one: one.name)
def test_tampering_is_named(tmp_path, tampering):
    folder = honest(tmp_path / "results")
    tampering.change(folder)
    path = archived(folder, tmp_path / "x.zip")
    found = problems(path)
    if tampering.check:
        assert any(tampering.check in line for line in found), found
        assert all(line.isprintable() and len(line) < 400 for line in found)
    else:
        assert found == ()
        assert not check_archive(path, rerun=run_again(tmp_path), sample_size=N).accepted


def run_again(tmp_path):
    """What a re-run with the weights that the row states would give."""
    folder = honest(tmp_path / "again")

    def rerun(result, wanted):
        stored = read_outcomes(find(folder, result.suite, result.method))
        return {name: only(stored[name], ids) for name, ids in wanted.items()}

    return rerun


def test_every_tampering_has_its_own_name():
    assert len({one.name for one in TABLE}) == len(TABLE) > 25


def test_the_docs_list_what_only_a_rerun_can_tell():
    page = (Path(__file__).parents[2] / "docs" / "submissions.md").read_text()
    _, _, after = page.partition("## What only a re-run can tell")
    section, _, _ = after.partition("\n## ")
    assert re.findall(r"^- (.+)$", section, re.MULTILINE) == [one.name for one in TABLE if not one.check]
