"""The content contract: what every file in suites/ and baselines/ promises, and the paper's eleven columns."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from boards import SUITES as SUITES_OF_TABLE_2

import nsbench
from nsbench import registry
from nsbench.types import GROUPS, Suite

REPOSITORY = Path(__file__).parents[2]
SUITES = sorted((REPOSITORY / "suites").glob("*.py"))
METHODS = sorted((REPOSITORY / "baselines").glob("*.py"))
SPLIT = re.compile(r"train|clean|robustbench|v2|a|r|sketch|stylized|damagenet|c/[a-z_]+/[1-5]|transfer/[0-9]+")
TABLE_2 = list(SUITES_OF_TABLE_2)


@pytest.fixture(scope="module", autouse=True)
def _content() -> None:
    registry.load_content()


@pytest.fixture
def suite(request: pytest.FixtureRequest) -> Suite:
    return registry.suites[request.param]


every_suite = pytest.mark.parametrize("suite", [path.stem for path in SUITES], indirect=True)


def test_content_loads_without_torch() -> None:
    code = (
        "import sys\nfrom nsbench import registry\nregistry.load_content()\n"
        "assert [s.conditions() for s in registry.suites.values()]\n"
        "heavy = {'torch', 'timm', 'torchvision', 'torchattacks'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr


@every_suite
def test_suite_keeps_the_contract(suite: Suite) -> None:
    assert suite.citation
    assert suite.summary.endswith("."), "the docstring is the column's tooltip: the exact protocol in sentences"
    assert len(suite.summary) > 40
    assert suite.group in GROUPS
    assert suite.build.__module__.startswith("nsbench_content."), "a suite file registers its own function"
    conditions = suite.conditions()
    assert conditions
    assert conditions == suite.conditions(), "conditions are the same every time"
    assert len({condition.name for condition in conditions}) == len(conditions), "condition names are unique"


@every_suite
def test_conditions_name_what_exists(suite: Suite) -> None:
    import nsbench.attacks  # noqa: F401  (registers the attacks)

    for condition in suite.conditions():
        assert SPLIT.fullmatch(condition.split), condition.split
        assert condition.preprocess in ("checkpoint", "none")
        attacked = condition.attack is not None or condition.split.startswith("transfer/")  # here or beforehand
        assert attacked == (condition.threat is not None), "an attack needs a threat model"
        if condition.attack is not None:
            assert condition.attack in registry.attacks
            accepted = registry.attacks[condition.attack].parameters
            assert set(condition.params) <= set(accepted), "settings that the attack does not have"


@pytest.mark.parametrize("path", METHODS, ids=lambda path: path.stem)
def test_method_keeps_the_contract(path: Path) -> None:
    method = registry.methods[path.stem]
    assert method.citation
    assert method.summary.endswith(".")
    assert method.title


@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.stem)
def test_suite_files_are_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 25


def test_the_papers_columns_stand_in_its_order() -> None:
    paper = sorted((suite for suite in registry.suites.values() if suite.paper), key=lambda suite: suite.order)
    assert [suite.name for suite in paper] == TABLE_2
    assert len({suite.order for suite in paper}) == len(TABLE_2)
    assert [suite.group for suite in paper] == ["clean", *["adversarial"] * 4, *["ood"] * 6]


def test_fgsm_reports_the_stated_eps_first() -> None:
    conditions = registry.suites["fgsm"].conditions()
    assert [str(condition.threat) for condition in conditions] == [
        "linf 1/255",
        "linf 0.5/255",
        "linf 2/255",
        "linf 4/255",
        "linf 8/255",
    ]
    assert conditions[0].name == "eps 1/255"


def test_pgd_states_its_headline_first_and_only_the_effort_differs_at_its_eps() -> None:
    first, *others = registry.suites["pgd"].conditions()
    assert (str(first.threat), first.params) == ("linf 4/255", {"steps": 10})
    assert sorted(c.threat.eps * 255 for c in others if c.params == {"steps": 10}) == pytest.approx([0.5, 1, 2, 8])
    assert {str(c.threat) for c in others if c.params != {"steps": 10}} == {"linf 4/255"}


def test_imagenet_c_has_every_corruption_at_every_severity() -> None:
    suite = registry.suites["imagenet_c"]
    names = {condition.name for condition in suite.conditions()}
    assert names == {f"{corruption}/{severity}" for corruption in nsbench.CORRUPTIONS for severity in range(1, 6)}
    assert len(names) == 75
    assert all(condition.split == f"c/{condition.name}" for condition in suite.conditions())
    assert suite.lower_is_better
    assert suite.unit == "mCE"


@pytest.mark.parametrize("name", ["imagenet_c", "damagenet", "stylized"])
def test_images_that_are_ready_are_never_resized(name: str) -> None:
    assert {condition.preprocess for condition in registry.suites[name].conditions()} == {"none"}
