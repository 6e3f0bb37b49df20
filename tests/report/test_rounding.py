"""A figure is rounded in one way on the whole page: what scripts print is what Python printed."""

import random

import pytest
from benchmarks.screenshot import browser, missing
from page_results import stored

from nsbench import report
from nsbench.leaderboard import build
from nsbench.report.numbers import figure, plain, pvalue, signed
from nsbench.report.page.rows import hundred_thousandths, hundredths
from nsbench.results import read_results

TIES = [at / 8 for at in range(-40, 41)]  # of these every fourth lies in the middle of two tenths
NEAR = [3.15, 3.1499999999999995, 3.1500000000000004, 0.0451, 0.05, -0.0499, 97.25, 0.25, 99.95, 100.0, 44.94551824636]
MANY = [*TIES, *NEAR, *(random.Random(0).uniform(-100, 100) for _ in range(2000))]
P = [0.0125, 0.01249999, 0.00099999, 0.001, 0.05, 0.0500001, 0.0499999, 1.0, 0.0, *(k / 7919 for k in range(7919))]


@pytest.mark.parametrize("digits", [2, 4])
def test_what_scripts_are_given_prints_as_the_value_does(digits):
    assert all(figure(plain(value, digits)) == figure(value) for value in MANY)
    assert all(f"{plain(value, digits):.2f}" == f"{value:.2f}" for value in MANY)
    assert plain(71.60000000000001) == 71.6
    assert plain(3.1500000000000004) == 3.1500000000000004  # as 3.15 it would print as 3.1


def test_differences_as_whole_numbers_print_as_they_do():
    assert all(signed(hundredths(value) / 100) == signed(value) for value in MANY)
    assert all(abs(hundredths(value) - 100 * value) <= 1 for value in MANY)
    assert hundredths(0.0451) == 4


def test_p_as_a_whole_number_prints_as_it_does_and_stays_on_its_side_of_a_twentieth():
    assert all(pvalue(hundred_thousandths(p) / 1e5) == pvalue(p) for p in P)
    assert all((hundred_thousandths(p) > 5000) == (p > 0.05) for p in P)


@pytest.mark.browser
@pytest.mark.skipif(bool(missing()), reason=missing())
def test_scripts_round_as_python_does(tmp_path):
    stored(tmp_path / "results")
    file = tmp_path / "index.html"
    file.write_text(report.to_html(build(*read_results(tmp_path / "results"))), encoding="utf-8")
    with browser() as driver:
        driver.get(file.as_uri())
        for digits in (0, 1, 2, 4):
            shown = driver.execute_script("return arguments[0].map(v => page.fixed(v, arguments[1]))", MANY, digits)
            assert [one.replace("-0", "0") if float(one) == 0 else one for one in shown] == [
                f"{value:.{digits}f}".replace("-0", "0") if round(value, digits) == 0 else f"{value:.{digits}f}"
                for value in MANY
            ]
        assert driver.execute_script("return arguments[0].map(page.signed)", MANY) == [signed(value) for value in MANY]
