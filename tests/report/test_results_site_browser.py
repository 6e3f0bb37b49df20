"""The site of results in a real chromium: no request, no violation of axe, no overflow, and a large board that sorts."""

import json

import pytest
from benchmarks.screenshot import browser, missing
from test_page import synthetic
from test_page_browser import axe
from test_results_site import files, root, site  # noqa: F401  fixtures

from nsbench.leaderboard import build
from nsbench.report.numbers import plain
from nsbench.report.site import site_of
from nsbench.report.site.boards import Board

WHY = missing()
pytestmark = [pytest.mark.browser, pytest.mark.skipif(bool(WHY), reason=WHY)]
PAGES = ("index.html", "methods/index.html", "methods/ns.html", "boards/first-shapes10.html")


@pytest.fixture(scope="module", params=["light", "dark"])
def driver(request):
    with browser(390, 800, dark=request.param == "dark") as found:
        yield found


@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_no_violation(driver, site, name):  # noqa: F811
    driver.get((site / name).as_uri())
    driver.execute_script(axe())
    found = driver.execute_async_script(
        "const done = arguments[0]; document.querySelectorAll('details').forEach(one => { one.open = true; });"
        "axe.run(document, { resultTypes: ['violations'] }).then(result => done(result.violations.map(one => "
        "[one.id, one.impact, one.nodes.length, one.nodes[0].html.slice(0, 200)])))"
    )
    assert found == []


@pytest.mark.parametrize("width", [390, 500, 1280, 1920])
def test_no_page_is_wider_than_the_screen_and_nothing_is_fetched(driver, site, width):  # noqa: F811
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    names = [name for name in files(site) if name.endswith(".html") and name != "404.html"]
    driver.get_log("performance")
    for name in names:
        driver.get((site / name).as_uri())
        page = driver.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
        assert page["width"] <= width, name
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    sent = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    asked = [one["params"]["request"]["url"] for one in sent if one["method"] == "Network.requestWillBeSent"]
    assert len(asked) > len(names)  # the style
    assert not [address for address in asked if not address.startswith((site.as_uri(), "data:"))]


def test_a_large_board_opens_quietly_sorts_and_shows_differences(driver, tmp_path):
    (table,) = build(synthetic(60)).tables
    for path, content in site_of([Board("many", "many", table, ())], ()).contents():
        if path.startswith("boards/") or path == "style.css":
            (tmp_path / path).parent.mkdir(exist_ok=True)
            (tmp_path / path).write_bytes(content)
    driver.get_log("browser")
    driver.get((tmp_path / "boards" / "many.html").as_uri())
    driver.execute_script("document.querySelectorAll('button[data-sort]')[4].click()")
    read = "return [...document.querySelectorAll('tbody.own tr')].map(row => +row.cells[4].dataset.v)"
    values = driver.execute_script(read)
    assert values == sorted(values, reverse=True)
    assert values == sorted((plain(row.cells["s1"].value, 2) for row in table.rows), reverse=True)
    driver.execute_script("document.querySelector('[name=difference]').click()")
    shown = driver.execute_script("return document.querySelector('tbody.own tr').cells[4].textContent")
    control = next(row for row in table.rows if row.role == "control").cells["s1"].value
    assert float(shown.replace("−", "-")) == pytest.approx(values[0] - control, abs=0.06)
    assert not [one for one in driver.get_log("browser") if one["level"] == "SEVERE"]
