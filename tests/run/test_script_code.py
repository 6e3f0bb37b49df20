"""Suites, methods and attacks of a script or a notebook: an edit is another measurement, what is shipped stays itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import nsbench.attacks
from nsbench import registry
from nsbench.registry.code import code_of, digest_of_file

SESSION = """
import torch
import nsbench as nb
from nsbench import registry

LIMIT, GREY = 1.0, torch.ones(3)

def helper(images):
    return images * LIMIT

@nb.attack(steps=1)
def own_attack(model, images, labels, *, ids, seed, threat):
    return helper(images)

@nb.suite(title="Own", group="ood", score=nb.accuracy, citation="", paper=False)
def own_suite():
    return [nb.Condition("own")]

@nb.method(title="Own", citation="", trains=False)
def own_method(model, train, recipe, **run):
    return model * GREY

def codes():
    return [registry.attacks["own_attack"].code, registry.suites["own_suite"].code, registry.methods["own_method"].code]

print(codes())
"""
LATER = """
first = codes()
{edit}
print([one == two for one, two in zip(first, codes())])
"""


def python(*words: str, content: str | None = None) -> list[str]:
    done = subprocess.run([sys.executable, *words], input=content, check=True, capture_output=True, text=True)
    return done.stdout.splitlines()


def test_a_script_carries_the_digest_of_its_file(tmp_path: Path) -> None:
    script = tmp_path / "mine.py"
    script.write_text(SESSION)
    first = python(str(script))
    assert first == [str([digest_of_file(script)] * 3)]
    assert python(str(script)) == first
    script.write_text(SESSION.replace("images * LIMIT", "images + LIMIT"))
    assert python(str(script)) != first


def test_a_file_that_a_script_imports_is_part_of_it(tmp_path: Path) -> None:
    script, beside = tmp_path / "mine.py", tmp_path / "values_of_mine.py"
    script.write_text(SESSION.replace("LIMIT, GREY = 1.0,", "from values_of_mine import LIMIT\nGREY ="))
    found = []
    for value in (1.0, 1.0, 2.0):
        beside.write_text(f"LIMIT = {value}\n")
        found.append(python(str(script)))
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize(
    ("edit", "same"),
    [
        ("LIMIT = 2.0", [False, True, True]),
        ("def helper(images): return images + LIMIT", [False, True, True]),
        ("GREY = torch.zeros(3)", [True, True, False]),
        ("other = 3", [True, True, True]),
    ],
)
def test_a_session_carries_what_its_functions_name(edit: str, same: list[bool]) -> None:
    """A cell may be run again after the one that registered."""
    found = python("-", content=SESSION + LATER.format(edit=edit))
    assert all(len(code) == 18 for code in found[0][1:-1].split(", "))
    assert found[1] == str(same)
    assert python("-", content=SESSION)[0] == found[0], "the same in another process"


def test_what_is_shipped_or_installed_has_a_version_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import EntryPoint

    registry.load_content([])
    shipped = [path.stem for folder in ("suites", "baselines") for path in registry.content_folder(folder).glob("*.py")]
    codes = {one.name: one.code for one in registry.suites.values()}
    codes |= {one.name: one.code for one in registry.methods.values()}
    assert {codes[name] for name in shipped} == {""}
    assert {registry.attacks[name].code for name in nsbench.attacks.__all__} == {""}

    def fit() -> None: ...

    assert code_of(fit) == digest_of_file(Path(__file__), __name__)
    points = [EntryPoint("fit", f"{__name__.partition('.')[0]}.plugin", "nsbench.methods")]
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: points)
    assert code_of(fit) == ""
