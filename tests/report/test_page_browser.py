"""The page in a real chromium: sorting, filters, differences, comparison, colours, keyboard, quiet and safe."""

import base64
import io
import json
import os
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from benchmarks.screenshot import browser, missing, printed
from page_results import HOSTILE, linf, one_round, outcomes, stored
from PIL import Image
from test_page import corrupted, synthetic

from nsbench import report
from nsbench.leaderboard import build, compare
from nsbench.report.numbers import counts, figure, pvalue, signed, verdict
from nsbench.results import read_results
from nsbench.statistics.corruption_error import mean_corruption_error

WHY = missing()
pytestmark = [pytest.mark.browser, pytest.mark.skipif(bool(WHY), reason=WHY)]
EVENTS = "Network.requestWillBeSent"
CLEAN = 3  # its place in a row of the table: after name, rank and average


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    for method, right, shift in (("pretrained", 70, 4), ("ns", 95, 0), ("finetune", 80, 3), ("hostile", 60, 2)):
        own = {"history": tuple(one_round(r, 10.0 + r, clean=0.3 / r) for r in (1, 2, 3))}
        if method == "hostile":
            own |= {"title": HOSTILE, "device": HOSTILE}
        stored(folder, method, right=right, **own)
        stored(folder, method, "imagenet_c", score=mean_corruption_error, conditions=corrupted(shift), **own)
        if method != "pretrained":
            stored(
                folder,
                method,
                "fgsm",
                conditions={f"eps {k}/255": ("clean", linf(k), outcomes((right - 20) // k)) for k in (1, 2, 4)},
                **own,
            )
    for model in ("vit_small_patch16_224", "vit_tiny_patch16_224"):
        stored(folder, "pretrained", source="imagenet", model=model)
    return build(*read_results(folder))


@pytest.fixture(scope="module")
def driver():
    with browser(1280, 900) as found:
        yield found


@pytest.fixture(scope="module")
def address(board, tmp_path_factory):
    file = tmp_path_factory.mktemp("page") / "index.html"
    file.write_text(report.to_html(board), encoding="utf-8")
    return file.as_uri()


@pytest.fixture
def page(driver, address):
    """The page, opened anew with empty logs."""
    driver.get("about:blank")
    for log in ("browser", "performance"):
        driver.get_log(log)
    driver.get(address)
    return driver


def one(page, selector):
    return page.find_element("css selector", selector)


def run(page, script, *arguments):
    return page.execute_script(script, *arguments)


def click(page, selector):
    run(page, "document.querySelector(arguments[0]).click()", selector)


def choose(page, selector, label):
    """Choose an option of a select by its text, as a hand does."""
    run(
        page,
        "const s = document.querySelector(arguments[0]); "
        "s.selectedIndex = [...s.options].findIndex(o => o.text === arguments[1]); "
        "s.dispatchEvent(new Event('change', { bubbles: true }))",
        selector,
        label,
    )


def column(page, at):
    """The shown texts of a column of the first table's own rows, from top to bottom."""
    return run(
        page,
        "return [...document.querySelectorAll('#t1-scores tbody.own tr:not([hidden])')].map(row => "
        "(row.cells[arguments[0]].querySelector('.v') || row.cells[arguments[0]]).textContent.trim())",
        at,
    )


def names(page):
    return run(
        page,
        "return [...document.querySelectorAll('#t1-scores tbody.own tr')].filter(row => !row.hidden)"
        ".map(row => row.cells[0].dataset.v)",
    )


def table_of(board):
    return next(table for table in board.tables if table.source == "shapes10")


def test_it_opens_quietly_from_one_file_and_runs_no_foreign_script(page, address):
    click(page, "#theme")
    assert page.get_log("browser") == []
    sent = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    asked = {event["params"]["request"]["url"].split("#")[0] for event in sent if event["method"] == EVENTS}
    assert asked <= {address, "about:blank"}
    assert address in asked
    assert HOSTILE in names(page)  # as text; an alert would have raised
    assert not page.find_elements("css selector", "img")


def test_columns_sort_either_way_and_what_is_missing_comes_last(page):
    head = "#t1-scores .heads th:nth-child({}) button"
    click(page, head.format(1))  # the rows stand by the first of these columns when the page opens
    for at, first, last in ((4, "95.0", "60.0"), (5, "75.0", "–"), (6, None, None)):
        click(page, head.format(at))
        once = column(page, at - 1)
        order = one(page, f"#t1-scores .heads th:nth-child({at})").get_attribute("aria-sort")
        numbers = [float(text) for text in once if text != "–"]
        down = at == 6  # C: lower is better
        assert order == ("ascending" if down else "descending")
        assert numbers == sorted(numbers, reverse=not down)
        if first:
            assert (once[0], once[-1]) == (first, last)
        click(page, head.format(at))
        turned = [float(text) for text in column(page, at - 1) if text != "–"]
        assert turned == sorted(numbers, reverse=down)
        assert ("–" in once) == (column(page, at - 1)[-1] == "–")
    assert len(page.find_elements("css selector", "#t1-scores th[aria-sort]")) == 1
    click(page, head.format(1))
    assert names(page) == sorted(names(page), key=str.lower)


@pytest.fixture
def ranked(driver, tmp_path):
    """A page of six rows with averages, at the width of a phone that is held upright and large."""
    file = tmp_path / "ranked.html"
    file.write_text(report.to_html(build(synthetic(6))), encoding="utf-8")
    size = {"height": 860, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": 500, **size})
    driver.get(file.as_uri())
    yield driver
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": 1280, **size})


def test_name_rank_average_and_clean_stand_on_the_first_screen(ranked):
    boxes = run(
        ranked,
        "return [...document.querySelector('tbody.own tr').cells].slice(0, 4).map(cell => {"
        " const box = cell.getBoundingClientRect(); return [box.right, box.bottom]; })",
    )
    titles = run(ranked, "return [...document.querySelectorAll('.heads th')].slice(0, 4).map(head => head.innerText)")
    assert [title.split()[0] for title in titles] == ["Method", "Rank", "Average", "S0"]
    assert all(right <= 500 and bottom <= 860 for right, bottom in boxes), boxes


def test_rank_sorts_by_its_best_place_then_by_its_worst(ranked):
    read = "return [...document.querySelectorAll('tbody.own tr')].map(row => row.cells[1].textContent)"
    places = [tuple(map(int, re.findall(r"\d+", text))) for text in run(ranked, read)]
    for order in (sorted(places), sorted(places, reverse=True)):
        click(ranked, ".heads [data-sort=rank]")
        assert [tuple(map(int, re.findall(r"\d+", text))) for text in run(ranked, read)] == order


def test_a_rows_name_opens_its_card(ranked):
    click(ranked, "tbody.own tr:nth-child(2) th")
    card = one(ranked, ".methods .card:target")
    assert card.get_attribute("id") == "t0-m1"
    assert all(part.get_attribute("open") for part in card.find_elements("css selector", "details"))


def test_filters_choose_rows_columns_and_sources(page):
    field = one(page, "form[data-for=t1] input[type=search]")
    field.send_keys("finetune")
    assert names(page) == ["FINETUNE"]
    assert one(page, "form[data-for=t1] output").text == "1 of 4 rows"
    for asked, found in (
        ("ns|finetune", ["FINETUNE", "NS"]),
        ("model:vit clean>=80", ["FINETUNE", "NS"]),
        ("clean<95 c<70|clean=60", None),
        ("rank<=1", []),  # no row has a rank: the average is missing
        ("nobody", []),
    ):
        run(page, "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'))", field, asked)
        if found is not None:
            assert sorted(names(page)) == found, asked
        shown = len(names(page))
        assert (
            one(page, "form[data-for=t1] output").text
            == f"{shown} of 4 rows{'' if shown else ': the filter fits none'}"
        )
    run(page, "arguments[0].value = ''; arguments[0].dispatchEvent(new Event('input'))", field)
    assert len(names(page)) == 4
    box = one(page, "form[data-for=t1] .pills label:nth-of-type(2) [name=group]")
    shown = "return [...document.querySelectorAll('#t1-scores .heads th')].filter(h => h.offsetWidth).length"
    before = run(page, shown)
    run(page, "arguments[0].click()", box)
    assert run(page, shown) == before - 1
    assert not one(page, "#t1 .card[data-group=Clean]").is_displayed()
    everything = "return document.querySelectorAll('#t0-scores tbody tr:not([hidden])').length"
    assert run(page, everything) == 2 + 2  # ours, and the two reported ones of vit_small
    for model, count in (("vit_small_patch16_224", 1 + 2), ("vit_tiny_patch16_224", 1)):
        choose(page, "form[data-for=t0] [name=model]", model)
        assert run(page, everything) == count
    choose(page, "#sources select", "imagenet")
    assert not one(page, "#t1").is_displayed()
    assert one(page, "#t0").is_displayed()


def test_intervals_are_shown_on_demand(page):
    assert one(page, "#t1-scores .ci").is_displayed()
    click(page, "form[data-for=t1] [name=intervals]")
    assert not one(page, "#t1-scores .ci").is_displayed()


def test_differences_are_against_the_control_or_a_chosen_row(page, board):
    table = table_of(board)
    before = column(page, CLEAN)
    click(page, "form[data-for=t1] [name=difference]")
    for reference in ("matched control", "PRETRAINED"):
        choose(page, "form[data-for=t1] [name=reference]", reference)
        label = "FINETUNE" if reference == "matched control" else reference
        found = dict(zip(names(page), column(page, CLEAN), strict=True))
        assert found.pop(label) == "ref."
        for row, text in found.items():
            (expected,) = [c.delta for c in compare(table, row, label) if c.suite == "clean"]
            assert text == signed(expected.value)
            cell = one(page, f"#t1-scores th[data-v='{row}'] ~ td:nth-child(4)") if row.isalpha() else None
            if cell:
                assert ("even" in cell.get_attribute("class").split()) == (expected.verdict == "not separable")
                assert f"{signed(expected.low)} to {signed(expected.high)}" in cell.get_attribute("title")
                assert expected.verdict in cell.get_attribute("title")
    assert "that of PRETRAINED" in one(page, "p.legend[data-for=t1]").text
    click(page, "form[data-for=t1] [name=difference]")
    assert column(page, CLEAN) == before


def test_any_two_rows_are_compared_as_the_command_does(page, board):
    table = table_of(board)
    titles = {c.suite: f"{c.title} {c.arrow}" for c in table.columns}
    for first, second in (("NS", "FINETUNE"), ("FINETUNE", "NS"), ("PRETRAINED", "NS")):
        choose(page, "#t1-compare [name=first]", first)
        choose(page, "#t1-compare [name=second]", second)
        shown = run(
            page,
            "return [...document.querySelectorAll('#t1-compare tbody tr')].map("
            "row => [...row.cells].map(cell => cell.textContent))",
        )
        expected = [
            [
                titles[c.suite],
                figure(c.cell.value),
                figure(c.other.value),
                signed(c.delta.value),
                f"{signed(c.delta.low)} to {signed(c.delta.high)}",
                "",
                "–" if c.only_first is None else counts(c.only_first, c.only_second),
                pvalue(c.delta.adjusted).removeprefix("p ").removeprefix("= "),
                verdict(c.delta),
            ]
            for c in compare(table, first, second)
        ]
        assert [[text.strip() for text in row] for row in shown] == expected
    choose(page, "#t1-compare [name=second]", HOSTILE)
    assert one(page, "#t1-compare thead .who:nth-child(3)").text == HOSTILE
    click(page, "#t1-compare [name=swap]")
    assert one(page, "#t1-compare thead .who:nth-child(2)").text == HOSTILE


def test_an_address_brings_back_what_was_chosen(page):
    click(page, "#t1-scores [data-sort=rank]")
    click(page, "#t1-scores .heads th:nth-child(4) button")
    choose(page, "form[data-for=t1] [name=reference]", "PRETRAINED")
    choose(page, "#t1-compare [name=first]", "PRETRAINED")
    click(page, "form[data-for=t1] .pills label:nth-of-type(3) [name=group]")
    field = one(page, "form[data-for=t1] input[type=search]")
    field.send_keys("ns|finetune")
    click(page, "#theme")
    run(page, "navigator.clipboard.writeText = async text => { window.copied = text; }")
    click(page, "#t1 .toc .link")
    link = run(page, "return window.copied")
    for part in (
        "t1.sort=-clean",
        "t1.against=PRETRAINED",
        "t1.show=differences",
        "t1-compare1=PRETRAINED",
        "theme=dark",
    ):
        assert part in link
    before, shown = names(page), column(page, CLEAN)
    page.get("about:blank")
    page.get(link)
    assert max(background(page)[:3]) < 60
    assert names(page) == before == ["NS", "FINETUNE"]
    assert column(page, CLEAN) == shown
    assert one(page, "#t1-scores .heads th:nth-child(4)").get_attribute("aria-sort") == "descending"
    assert one(page, "#t1-compare thead .who:nth-child(2)").text == "PRETRAINED"
    assert not one(page, "#t1 .card[data-group=Adversarial]").is_displayed()
    run(
        page,
        "arguments[0].value = ''; arguments[0].dispatchEvent(new Event('input'))",
        one(page, "[data-for=t1] [type=search]"),
    )
    assert "filter" not in run(page, "return location.search")


def test_a_group_of_columns_can_be_asked_for(page):
    heads = (
        "return [...document.querySelectorAll('#t1-scores .heads th')].filter(h => h.offsetWidth)"
        ".map(h => h.textContent.split('\\u00a0')[0])"
    )
    one(page, "form[data-for=t1] input[type=search]").send_keys("group:adversarial")
    assert run(page, heads) == ["Method", "Rank", "Average", "Fgsm"]
    assert len(names(page)) == 4
    assert not one(page, "#t1 .card[data-group=Clean]").is_displayed()


def test_the_contents_stay_in_sight_and_lead_to_their_parts(page):
    links = page.find_elements("css selector", "#t1 .toc a")
    assert [link.text for link in links][:2] == ["Table", "Compare"]
    assert all(run(page, "return document.querySelector(arguments[0].hash)", link) for link in links)
    run(page, "document.documentElement.style.scrollBehavior = 'auto'; arguments[0].click()", links[-3])
    assert run(page, "return document.querySelector('#t1 .toc').getBoundingClientRect().top") == 0


def test_evidence_opens_the_comparison_of_its_sentence(page):
    choose(page, "#t1-compare [name=first]", HOSTILE)
    click(page, "#t1 .answer a[data-compare]")
    assert one(page, "#t1-compare thead .who:nth-child(2)").text == "NS"
    assert one(page, "#t1-compare thead .who:nth-child(3)").text == "FINETUNE"


def test_the_key_c_compares_the_row_with_the_focus_or_under_the_pointer_with_its_control(page):
    from selenium.webdriver.support.ui import WebDriverWait

    who = "#t1-compare thead .who:nth-child({})"
    choose(page, "#t1-compare [name=first]", HOSTILE)
    row = "[...document.querySelectorAll('#t1-scores tbody.own tr')].find(row => row.cells[0].dataset.v === 'NS')"
    press = "dispatchEvent(new KeyboardEvent('keydown', { key: 'c', bubbles: true }))"
    run(page, f"{row}.querySelector('a').focus(); document.activeElement.{press}")
    assert [one(page, who.format(at)).text for at in (2, 3)] == ["NS", "FINETUNE"]
    choose(page, "#t1-compare [name=second]", HOSTILE)
    run(page, f"document.activeElement.blur(); {row}.scrollIntoView({{ block: 'center', behavior: 'instant' }})")
    WebDriverWait(page, 10).until(lambda page: pointed_at(page, row))
    run(page, f"document.body.{press}")
    assert [one(page, who.format(at)).text for at in (2, 3)] == ["NS", "FINETUNE"]
    choose(page, "#t1-compare [name=second]", HOSTILE)
    run(page, f"document.querySelector('#t1-compare [name=first]').{press}")  # it chooses by letter there
    assert one(page, who.format(3)).text == HOSTILE


def pointed_at(page, element):
    """Move the pointer there; whether it is there, which a page that is still being laid out says later."""
    box = run(page, f"const box = {element}.getBoundingClientRect(); return [box.left + 40, box.top + 8]")
    page.execute_cdp_cmd("Input.dispatchMouseEvent", {"type": "mouseMoved", "x": box[0], "y": box[1]})
    return run(page, f"return {element}.matches(':hover')")


def background(page):
    colour = run(page, "return getComputedStyle(document.body).backgroundColor")
    return [int(part) for part in re.findall(r"\d+", colour)]


def test_colours_follow_the_system_and_the_switch(page):
    assert min(background(page)[:3]) > 200
    page.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    )
    assert max(background(page)[:3]) < 60
    page.refresh()
    assert one(page, "#theme").text == "Light"
    click(page, "#theme")
    assert min(background(page)[:3]) > 200
    page.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "light"}]}
    )


def test_no_line_of_a_chart_is_filled(page):
    """A path that does not close is a line, in whatever chart; a filled one shows as a black crescent."""
    drawn = run(
        page,
        "return [...document.querySelectorAll('svg path, svg polyline, svg line')].map(line => {"
        " const style = getComputedStyle(line);"
        " const open = line.tagName !== 'path' || !/z\\s*$/i.test(line.getAttribute('d'));"
        " return [line.getAttribute('class') || '', open, style.fill !== 'none' && style.fillOpacity !== '0',"
        " style.stroke !== 'none']; })",
    )
    kinds = {word for name, *_ in drawn for word in name.split()}
    assert {"reference", "line", "grid", "axis"} <= kinds, "the page of this test draws them"
    assert [name for name, is_open, filled, _ in drawn if is_open and filled] == []
    assert [name for name, is_open, _, stroked in drawn if is_open and not stroked] == []


def test_the_keyboard_reaches_every_figure(page):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    def press(key):
        ActionChains(page).send_keys(key).perform()
        return page.switch_to.active_element

    cell = one(page, "#t1-scores tbody.own td:nth-child(4)")
    run(page, "arguments[0].focus()", cell)
    assert one(page, "#tip").is_displayed()
    assert "95 % interval" in one(page, "#tip").text
    assert run(page, "return document.activeElement.getAttribute('aria-describedby')") == "tip"
    right = press(Keys.ARROW_RIGHT)
    assert run(page, "return arguments[0].cellIndex", right) == 4
    assert run(page, "return arguments[0].parentNode.rowIndex", press(Keys.ARROW_DOWN)) == 3
    press(Keys.ESCAPE)
    assert not one(page, "#tip").is_displayed()
    button = one(page, "#t1-scores .heads th:nth-child(4) button")
    run(page, "arguments[0].focus()", button)
    assert one(page, "#t1-scores .heads th:nth-child(4)").get_attribute("aria-sort") == "descending"
    press(Keys.ENTER)
    assert one(page, "#t1-scores .heads th:nth-child(4)").get_attribute("aria-sort") == "ascending"
    assert len(page.find_elements("css selector", "#t1-scores tbody td[tabindex='0']")) == 1


def test_commands_are_copied(page):
    run(page, "navigator.clipboard.writeText = async text => { window.copied = text; }")
    click(page, "#t1 .card .copy.all")
    assert run(page, "return window.copied").startswith("nsbench run --method ")


def saved(page, name, kind):
    """Name and content (text, or bytes of a picture) of the file that a figure's button gives."""
    return page.execute_async_script(
        """
        const [name, kind, done] = arguments;
        page.save = async (file, content) => {
          if (typeof content === "string") return done([file, content]);
          const reader = new FileReader();
          reader.onload = () => done([file, reader.result.split(",")[1]]);
          reader.readAsDataURL(content);
        };
        const figure = [...document.querySelectorAll("figure[data-name]")].find(one => one.dataset.name === name);
        [...figure.querySelectorAll(".files button")].find(one => one.textContent === kind).click();
        """,
        name,
        kind,
    )


def test_every_figure_gives_its_files(page, board):
    figures = run(page, "return [...document.querySelectorAll('figure[data-name]')].map(one => one.dataset.name)")
    assert len(page.find_elements("css selector", ".files button")) == 3 * len(figures)
    assert len(page.find_elements("css selector", "svg.chart, table.heat")) == len(figures)
    file, text = saved(page, "shapes10-scores-fgsm", "CSV")
    assert file == "shapes10-scores-fgsm.csv"
    cell = next(row for row in table_of(board).rows if row.method == "ns").cells["fgsm"]
    lines = text.splitlines()
    assert lines[0] == '"row","value (%)","low","high"'
    best = next(line for line in lines if line.startswith('"NS"'))
    assert [float(number) for number in best.split(",")[1:]] == pytest.approx(
        [cell.value, cell.low, cell.high], abs=5e-5
    )
    assert saved(page, "shapes10-loss-NS", "CSV")[1].splitlines()[1] == "1,0.3"


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", ["shapes10-budgets-fgsm", "shapes10-errors-imagenet_c-NS"])
def test_saved_pictures_need_no_page_to_look_as_on_it(page, address, theme, name):
    page.get(f"{address}?theme={theme}")
    file, text = saved(page, name, "SVG")
    assert file == f"{name}.svg"
    root = ElementTree.fromstring(text)
    assert not re.search(r"class=|var\(|light-dark|oklab|color-mix", text)
    ground = root.find("{*}rect").get("fill")
    assert ground == ("rgb(255,255,255)" if theme == "light" else "rgb(26,28,32)")
    words = {"".join(one.itertext()).strip() for one in root.iter("{http://www.w3.org/2000/svg}text")}
    assert ("ε in 1/255, ℓ∞" if "budgets" in name else "gaussian noise") in words
    file, content = saved(page, name, "PNG")
    assert file == f"{name}.png"
    with Image.open(io.BytesIO(base64.b64decode(content))) as picture:
        assert picture.width == int(3 * float(root.get("width")))
        assert picture.convert("RGB").getpixel((1, 1)) == tuple(map(int, re.findall(r"\d+", ground)))
        assert len(picture.convert("RGB").getcolors(1 << 20)) > 20  # something is drawn


def test_everything_can_be_read_without_scripts(page, address):
    page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        page.get(address)
        assert not one(page, "form.tools").is_displayed()
        assert one(page, "#t1-scores .v").is_displayed()
        assert one(page, "#t1-compare tbody tr").is_displayed()
        assert one(page, "#t1 svg.chart").is_displayed()
        assert one(page, "#t1 figure details.data summary").is_displayed()
        assert not page.find_elements("css selector", ".files")
    finally:
        page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


@pytest.mark.parametrize("width", [390, 1280, 1920])
def test_no_width_scrolls_sideways(page, width):
    size = {"height": 900, "deviceScaleFactor": 1, "mobile": False}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": width, **size})
    assert run(page, "return document.documentElement.scrollWidth") == width
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": 1280, **size})


def test_it_prints_without_its_controls(page, tmp_path):
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert not one(page, "form.tools").is_displayed()
    assert one(page, "#t1-scores").is_displayed()
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    printed(page, tmp_path / "page.pdf")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")


def axe():
    """The text of axe-core, from the npm package of that name."""
    file = Path(os.environ.get("NSBENCH_AXE", "")) if os.environ.get("NSBENCH_AXE") else None
    if file is None:
        pytest.skip("NSBENCH_AXE names no axe.min.js; get one: npm pack axe-core && tar xzf axe-core-*.tgz")
    return file.read_text(encoding="utf-8")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_no_serious_violation(page, address, theme):
    script = axe()
    page.get(f"{address}?theme={theme}")
    run(page, "document.querySelectorAll('details').forEach(part => { part.open = true; })")
    run(page, script)
    for mode in ("values", "differences"):
        if mode == "differences":
            click(page, "form[data-for=t1] [name=difference]")
        found = page.execute_async_script(
            "const done = arguments[0]; axe.run(document, { resultTypes: ['violations'] }).then(result => done("
            "result.violations.map(v => [v.id, v.impact, v.nodes.map(n => n.html.slice(0, 160)).slice(0, 3)])))"
        )
        assert [one for one in found if one[1] in ("serious", "critical")] == [], mode


@pytest.mark.slow
def test_a_thousand_rows_open_and_sort_in_a_second(driver, tmp_path):
    """Seconds of the page's own thread, which other work on the machine does not lengthen much; the best of three."""
    file = tmp_path / "thousand.html"
    file.write_text(report.to_html(build(synthetic(1000))), encoding="utf-8")
    driver.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
    opened, sorted_in = [], []
    for _ in range(3):
        driver.get("about:blank")
        start = busy(driver)
        driver.get(file.as_uri())
        opened.append(busy(driver) - start)
        start = busy(driver)
        driver.execute_async_script(
            "document.querySelectorAll('button[data-sort]')[4].click();"
            "requestAnimationFrame(() => setTimeout(arguments[0], 0))"
        )
        sorted_in.append(busy(driver) - start)
    values = values_of(driver, 4)
    assert [values[name] for name in names_of(driver)] == sorted(values.values(), reverse=True)  # rows may be equal
    assert len(values) == 1000
    visible = "return [...document.querySelectorAll('tbody.own tr')].filter(row => row.offsetHeight).length"
    assert run(driver, visible) == 200
    click(driver, "[name=everything]")
    assert run(driver, visible) == 1000
    assert min(opened) < 1, opened
    assert min(sorted_in) < 1, sorted_in


def busy(driver):
    """Seconds that the page's thread has worked so far."""
    metrics = driver.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
    return next(one["value"] for one in metrics if one["name"] == "TaskDuration")


def names_of(driver):
    return run(driver, "return [...document.querySelectorAll('tbody.own tr')].map(row => row.cells[0].dataset.v)")


def values_of(driver, at):
    return run(
        driver,
        "return Object.fromEntries([...document.querySelectorAll('tbody.own tr')].map("
        "row => [row.cells[0].dataset.v, +row.cells[arguments[0]].dataset.v]))",
        at,
    )
