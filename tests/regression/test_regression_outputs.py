"""Outputs for CI, read by parsers that are not ours: JUnit XML, Markdown, HTML, annotations, JSON; hostile names."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from regression_results import CORRUPTED, baseline, flags, store

from nsbench.cli import main
from nsbench.regression import BaselineCheck, Entry, Rules, check_results, write_baseline
from nsbench.regression.explain import to_html
from nsbench.regression.junit import to_junit
from nsbench.regression.output import to_annotations, to_json, to_markdown, to_text
from nsbench.regression.words import signed
from nsbench.run.opening import open_source

REPOSITORY = Path(__file__).parents[2]
N = 60
HOSTILE = (
    "<script>alert(1)</script>",
    "]]><!-- &amp; \"'",
    "a|b `c` *d* [e](http://f) @everyone #1 ![x](y)",
    "two\nlines\r::error::forged %0A",
    "\x1b[2J\x00\x08\ufffe zero",
    "<img src=x onerror=alert(1)>",
    "$x^2$ ~~y~~",
    "::error::forged",
    "##[error]forged",
)


def one_of_each(folder: Path, method: str = "ns", image: str = "clean/") -> BaselineCheck:
    """A check with each verdict, of a method and of images with these names."""
    stored = image.replace("\x00", "")  # what no file of outcomes holds
    ids = [f"{stored}{k:05d}" for k in range(N)]
    outcomes = {
        "clean": ({}, {}),
        "fgsm": ({"lose": 30}, {}),
        "cw": ({"win": 12}, {}),
        "patchfool": ({}, {"suite_version": 2}),
    }
    before = [store(folder / "a", {"clean": flags(N, 45)}, suite=name, ids=ids) for name in outcomes]
    after = [
        store(folder / "b", {"clean": flags(N, 45, **moves)}, suite=name, ids=ids, **changes)
        for name, (moves, changes) in outcomes.items()
    ]
    held = baseline(*before, repeats=1, moved={method: (0, N)})
    held = replace(held, entries=tuple(replace(entry, method=method) for entry in held.entries))
    return check_results(held, [replace(result, method=method) for result in after], Rules())


@pytest.fixture(params=["plain", *range(len(HOSTILE))], ids=str)
def found(request: pytest.FixtureRequest, tmp_path: Path) -> BaselineCheck:
    name = "ns" if request.param == "plain" else HOSTILE[request.param]
    return one_of_each(tmp_path, name, f"clean/{name}")


def test_junit_is_read_by_an_independent_parser(found: BaselineCheck, tmp_path: Path) -> None:
    junitparser = pytest.importorskip("junitparser")
    path = tmp_path / "junit.xml"
    path.write_bytes(to_junit(found))
    read = junitparser.JUnitXml.fromfile(str(path))
    read_totals = read.tests, read.failures, read.errors
    cases = [case for suite in read for case in suite]
    verdicts = {case.name: (case.result[0].type if case.result else "passed") for case in cases}
    assert verdicts == {
        "clean": "passed",
        "fgsm": "regressed",
        "cw": "passed",
        "patchfool": "incomparable",
        "moved": "passed",
    }
    assert isinstance(next(c for c in cases if c.name == "fgsm").result[0], junitparser.Failure)
    assert isinstance(next(c for c in cases if c.name == "patchfool").result[0], junitparser.Error)
    read.update_statistics()
    assert (read.tests, read.failures, read.errors) == read_totals == (5, 1, 1)


def test_junit_keeps_names_that_xml_can_hold(tmp_path: Path) -> None:
    for number, name in enumerate(HOSTILE):
        (suite,) = ET.fromstring(to_junit(one_of_each(tmp_path / str(number), name)))
        expected = name.replace("\r", "\n") if number == 3 else name
        for letter in "\x00\x08\x1b\ufffe":
            expected = expected.replace(letter, "\ufffd")
        assert suite.get("name") in (expected, name)


def test_strict_fails_a_method_that_moved(tmp_path: Path) -> None:
    found = one_of_each(tmp_path)
    strict = replace(found, rules=Rules(strict=True))
    failures = [
        [case.get("name") for case in ET.fromstring(to_junit(one)).iter("testcase") if case.find("failure") is not None]
        for one in (found, strict)
    ]
    assert failures == [["fgsm"], ["fgsm", "moved"]]


class Tags(HTMLParser):
    """Every tag with its attributes, and the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


def test_markdown_begins_with_the_suites_that_are_not_as_they_were(tmp_path: Path) -> None:
    head = to_markdown(one_of_each(tmp_path)).partition("<details>")[0]
    assert [line.partition("<code>")[2].partition("</code>")[0] for line in head.splitlines() if line[:1] == "-"] == [
        "ns x fgsm",
        "ns x cw",
        "ns x patchfool",
        "ns",  # on average
    ]


def test_markdown_shows_names_and_nothing_else(found: BaselineCheck) -> None:
    markdown_it = pytest.importorskip("markdown_it")  # comes with rich
    page = Tags(markdown_it.MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(to_markdown(found)))
    assert set(page.tags) <= {
        "h3",
        "p",
        "ul",
        "li",
        "code",
        "details",
        "summary",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
    }
    assert page.attributes <= {"style"}, "alignment of the columns"
    assert page.tags.count("tr") == 1 + len(found.suites)
    assert page.tags.count("td") == 9 * len(found.suites)
    name = found.suites[0].method
    assert "".join(c if c.isprintable() else "\ufffd" for c in name) in page.text


def test_text_and_annotations_stay_on_their_lines(found: BaselineCheck) -> None:
    text = to_text(found)
    lines = ("head", "reason", "what is compared", "moved", "power", "headline")
    assert text.count("\n") == len(found.suites) + len(lines)
    assert all(letter.isprintable() or letter == "\n" for letter in text)
    assert "##[" not in text
    assert not any(line.lstrip().startswith("::") for line in text.splitlines())
    lines = to_annotations(found)
    assert [line.split(" ")[0] for line in lines] == ["::error", "::notice", "::error", "::notice"]
    for line in lines:
        assert line.count("\n") == line.count("\r") == 0
        _, properties, _message = line.split("::", 2)
        assert properties.count(",") == 0
        assert properties.count(":") == 0


def test_the_page_of_flips_escapes_names(found: BaselineCheck) -> None:
    page = Tags(to_html(found, None))
    assert not {"script", "img", "a"} & set(page.tags)
    assert not any(name.startswith("on") for name in page.attributes)
    assert page.tags.count("li") >= 24 + 12, "the flips"


def test_the_page_of_flips_is_one_landmark_and_the_keyboard_scrolls_its_table(found: BaselineCheck) -> None:
    page = to_html(found, None)
    body = page.partition("<body>")[2].partition("</body>")[0].strip()
    assert body.startswith("<main>")
    assert body.endswith("</main>")
    assert body.count('<div class="scroll"') == body.count('<div class="scroll" tabindex="0" role="region" ') == 1


def test_json_holds_everything(found: BaselineCheck) -> None:
    record = json.loads(to_json(found))
    assert [c["verdict"] for c in record["comparisons"]] == ["ok", "regressed", "improved", "incomparable"]
    assert len(record["comparisons"][1]["lost"]) == 30
    assert record["exit_status"] == 1
    assert record["comparisons"][1]["p"] == pytest.approx(2 * 0.5**30)


def test_the_page_shows_the_flipped_pictures(tmp_path: Path) -> None:
    source = open_source("shapes10")
    split = source.split("c/fog/3").limited(N)
    ids, labels = split.ids.tolist(), split.labels.tolist()
    right = {name: np.ones(N, dtype=bool) for name in CORRUPTED}
    worse = {name: np.arange(N) >= (20 if name.startswith("fog") else 0) for name in CORRUPTED}
    before, after = (
        store(tmp_path / where, outcome, suite="imagenet_c", ids=ids, labels=labels)
        for where, outcome in (("a", right), ("b", worse))
    )
    page = to_html(check_results(baseline(before), [after], Rules()), source)
    assert page.count("data:image/png;base64,") == 20
    assert "was right in 75 of 75, now right in 70 of 75" in page
    assert "fog/1, fog/2, fog/3, fog/4 and 1 more" in page
    assert source.class_names[int(Entry.of(before).images.labels[0])] in page
    assert "not at hand" in to_html(check_results(baseline(before), [after], Rules()), None)


def test_the_command_writes_every_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    before = store(tmp_path / "before", {"clean": flags(N, 45)})
    store(tmp_path / "after", {"clean": flags(N, 45, lose=30)})
    write_baseline(tmp_path / "b.json", baseline(before))
    (tmp_path / "s.md").write_text("what stood there\n")
    files = [
        arg
        for name, file in (("junit", "j.xml"), ("summary", "s.md"), ("json", "c.json"), ("explain", "e.html"))
        for arg in (f"--{name}", str(tmp_path / file))
    ]
    done = CliRunner().invoke(
        main, ["check", "--baseline", str(tmp_path / "b.json"), "--results", str(tmp_path / "after"), *files]
    )
    assert done.exit_code == 1
    assert "::error title=nsbench check%3A ns x clean::regressed" in done.output
    assert ET.parse(tmp_path / "j.xml").getroot().get("failures") == "1"
    assert (tmp_path / "s.md").read_text().startswith("what stood there\n### nsbench check: failed")
    assert json.loads((tmp_path / "c.json").read_text())["failed"]
    assert "<h2>ns x clean</h2>" in (tmp_path / "e.html").read_text()


@pytest.mark.parametrize(
    ("options", "status"), [("", 1), ("--min-drop 60", 0), ("--strict; touch pwned", 2), ("$(touch pwned) *", 2)]
)
def test_the_github_action(tmp_path: Path, options: str, status: int) -> None:
    """The script of the composite action, as a runner starts it; its options are words and never commands."""
    yaml = pytest.importorskip("yaml")
    action = yaml.safe_load((REPOSITORY / ".github" / "actions" / "check" / "action.yml").read_text())
    (step,) = action["runs"]["steps"]
    inputs = {name: str(given["default"]) for name, given in action["inputs"].items() if "default" in given}
    result = store(tmp_path / "after", {"clean": flags(N, 45, lose=30)})
    write_baseline(tmp_path / "b.json", baseline(store(tmp_path / "before", {"clean": flags(N, 45)})))
    inputs |= {"baseline": "b.json", "results": "after", "options": options}
    environment = {
        name: inputs[value.removeprefix("${{ inputs.").removesuffix(" }}")] for name, value in step["env"].items()
    }
    environment |= {
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary"),
        "GITHUB_OUTPUT": str(tmp_path / "output"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    (tmp_path / "script").write_text(step["run"])
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "script"],
        cwd=tmp_path,
        text=True,
        env=os.environ | environment,
        capture_output=True,
    )
    assert done.returncode == status, done.stdout + done.stderr
    assert (tmp_path / "output").read_text() == f"status={status}\n"
    assert not (tmp_path / "pwned").exists()
    if status < 2:
        assert result.suite in (tmp_path / "summary").read_text()
        assert (tmp_path / inputs["junit"]).is_file()
        assert (tmp_path / inputs["explain"]).is_file()


@pytest.mark.parametrize(("drop", "words"), [(2.04, "+2.0"), (-0.31, "-0.3"), (0.049, "0.0"), (-0.049, "0.0")])
def test_a_drop_has_its_sign_and_nothing_is_minus_nothing(drop: float, words: str) -> None:
    assert signed(drop) == words
