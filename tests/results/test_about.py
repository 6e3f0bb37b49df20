"""Whose a row is: read from a file, kept beside the figures, shown and linked, and no way to smuggle anything in."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from boards import store
from click.testing import CliRunner

from nsbench import report
from nsbench.cli import main
from nsbench.errors import ResultError, UsageError
from nsbench.leaderboard import build
from nsbench.report.tables.hubs import to_huggingface, to_robustbench
from nsbench.results import note_about, parse_result, read_results
from nsbench.results.about import read_about
from nsbench.results.record import About
from nsbench.results.store import to_json

FACTS = """title = "A <b>paper</b>"
authors = ["Ada L.", "Alan T."]
paper = "https://arxiv.org/abs/2403.10476"
code = "http://example.org/code"
licence = "MIT"
date = 2025-03-24
"""
ABOUT = About("A <b>paper</b>", ("Ada L.", "Alan T."), "https://arxiv.org/abs/2403.10476", "http://example.org/code",
              "", "MIT", "2025-03-24")  # fmt: skip


def test_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "about.toml").write_text(FACTS)
    assert read_about(tmp_path / "about.toml") == ABOUT


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('paper = "javascript:alert(1)"', "paper"),
        ("code = 'https://a\"onmouseover=x'", "code"),
        ('author = "me"', "author"),
        ('authors = "me"', "authors"),
        ('date = "yesterday"', "date"),
        ("title = ", "cannot be read"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "about.toml").write_text(text)
    with pytest.raises(UsageError, match=words) as raised:
        read_about(tmp_path / "about.toml")
    assert "\n" not in str(raised.value)


def test_it_is_shown_and_linked_and_moves_nothing(tmp_path: Path) -> None:
    store(tmp_path, "ns", "clean", [True, False, True])
    (before,), _ = read_results(tmp_path)
    note_about(before, ABOUT)
    (after,), _ = read_results(tmp_path)
    assert after.provenance.about == ABOUT
    assert replace(after, provenance=replace(after.provenance, about=None)) == before
    page = report.render(tmp_path, tmp_path / "index.html").read_text()
    assert "A &lt;b&gt;paper&lt;/b&gt;. Ada L., Alan T.. MIT. 2025-03-24" in page
    assert '<a href="https://arxiv.org/abs/2403.10476" rel="noopener nofollow">paper</a>' in page
    assert "<b>paper" not in page


def test_a_stranger_s_address_is_no_script(tmp_path: Path) -> None:
    store(tmp_path, "ns", "clean", [True, False, True])
    (result,), _ = read_results(tmp_path)
    record = json.loads(to_json(replace(result, provenance=replace(result.provenance, about=ABOUT))))
    record["provenance"]["about"]["paper"] = "javascript:alert(1)"
    with pytest.raises(ResultError, match="paper"):
        parse_result(json.dumps(record).encode())


def test_robustbench_gets_authors_and_link(tmp_path: Path) -> None:
    store(tmp_path, "ns", "clean", [True, False, True])
    store(tmp_path, "ns", "imagenet_c", [True, False, True])
    results = [note_about(one, ABOUT) for one in read_results(tmp_path)[0]]
    for text in to_robustbench(build(results)).values():
        info = json.loads(text)
        assert (info["authors"], info["link"]) == ("Ada L., Alan T.", ABOUT.paper)


def test_a_model_card_credits_and_links(tmp_path: Path) -> None:
    store(tmp_path, "ns", "clean", [True, False, True])
    strange = replace(ABOUT, code="https://example.org/a)(b")
    results = [note_about(one, strange) for one in read_results(tmp_path)[0]]
    (card,) = to_huggingface(build(results)).values()
    assert "A &#60;b&#62;paper&#60;&#47;b&#62; · Ada L., Alan T. · MIT · 2025-03-24" in card
    assert "[paper](https://arxiv.org/abs/2403.10476)" in card
    assert "[code](https://example.org/a%29%28b)" in card


def test_a_run_notes_it_on_what_is_held_too(tmp_path: Path) -> None:
    (tmp_path / "about.toml").write_text(FACTS)
    command = ["run", "--method", "pretrained", "--suite", "clean", "--limit", "8", "--results", str(tmp_path / "r")]
    assert CliRunner().invoke(main, command).exit_code == 0
    noted = CliRunner().invoke(main, [*command, "--about", str(tmp_path / "about.toml")])
    assert noted.exit_code == 0, noted.output
    assert "held already" in noted.output
    (result,), _ = read_results(tmp_path / "r")
    assert result.provenance.about == ABOUT
    wrong = CliRunner().invoke(main, [*command, "--about", str(tmp_path / "not.toml")])
    assert wrong.exit_code == 2
