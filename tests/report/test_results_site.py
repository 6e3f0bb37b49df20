"""The static site of results: links, names of strangers, what a second run does, the feed, the sizes of large boards."""

import posixpath
import re
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner
from page_results import HOSTILE, Page, linf, outcomes, stored
from PIL import Image
from test_page import synthetic, with_pictures

from nsbench.cli import main
from nsbench.errors import ResultError, UsageError
from nsbench.leaderboard import build
from nsbench.report.numbers import plain
from nsbench.report.site import CARDS, SENTENCES, site_of, write_site
from nsbench.report.site.boards import Board, read_boards
from nsbench.report.site.changes import changes_of
from nsbench.report.site.names import file_name
from nsbench.report.site.writing import LIST, write

ADDRESS = "https://owner.example/results/"
STRANGE = 'x<&"y'
MOST = 2_000_000  # bytes of a page


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Two results folders below one root, one of them with two sources; a method of a stranger, an attack, a change."""
    folder = tmp_path_factory.mktemp("repository")
    for method, right in (("pretrained", 70), ("finetune", 80), ("ns", 95)):
        stored(folder / "first" / "results", method, right=right)
    eps = {f"eps {k}/255": ("clean", linf(k), outcomes(60 - 9 * k)) for k in (1, 2)}
    stored(folder / "first" / "results", "ns", "fgsm", conditions=eps, date="2025-02-01T10:00:00+00:00")
    stored(folder / "first" / "results", "ns", source="imagenet", model="hub/vit")
    second = folder / "second" / "deeper"
    stored(second, "ns", right=90)
    stored(second, "ns", right=91, weights_digest="others", identity="0" * 16, date="2025-03-01")
    stored(second, STRANGE, title=HOSTILE, method_title=HOSTILE, method_summary=HOSTILE, device=HOSTILE, date="no date")
    stored(second, STRANGE.upper(), right=3)
    return folder


@pytest.fixture(scope="module")
def site(root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("site") / "site"
    write_site(root, folder, title='Ours & "theirs"', address=ADDRESS)
    return folder


def files(folder):
    return {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}


def content(folder):
    return {name: path.read_bytes() for name, path in files(folder).items()}


class Links(HTMLParser):
    """Addresses that a page names, and ids that it has."""

    def __init__(self, text):
        super().__init__()
        self.addresses, self.ids = [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.ids |= {given["id"]} if "id" in given else set()
        self.addresses += [given[name] for name in ("href", "src") if given.get(name) is not None]
        if given.get("property") in ("og:image", "og:url"):
            self.addresses.append(given["content"])


# --- pages ----------------------------------------------------------------------------------------------------------


def test_every_table_has_a_page_and_every_method(site):
    found = set(files(site))
    assert {name for name in found if name.endswith(".html") and name.startswith("boards/")} == {
        "boards/first-shapes10.html", "boards/first-imagenet.html", "boards/second-deeper-shapes10.html",
    }  # fmt: skip
    strange = {name for name in found if re.fullmatch(r"methods/x-y-[0-9a-f]{8}\.html", name)}
    assert len(strange) == 2
    assert {f"methods/{name}.html" for name in ("index", "ns", "finetune", "pretrained")} | strange == {
        name for name in found if name.startswith("methods/")
    }
    others = {"index.html", "404.html", "feed.xml", "sitemap.xml", "robots.txt", ".nojekyll", "social.png", "style.css"}
    assert others <= found


@pytest.mark.parametrize("address", ["", ADDRESS])
def test_every_link_leads_to_a_file_and_an_id_of_the_site(root, tmp_path, address):
    write_site(root, tmp_path / "site", address=address)
    pages = {name: Links(path.read_text()) for name, path in files(tmp_path / "site").items() if name.endswith(".html")}
    assert len(pages) == 11
    checked = 0
    for name, page in pages.items():
        for link in page.addresses:
            if link.startswith("data:"):
                continue
            if link.startswith(address) and address:
                inside = posixpath.normpath(link.removeprefix(address).partition("#")[0] or ".")
            else:
                assert not urlsplit(link).scheme, f"{name} leads out of the site: {link}"
                assert not link.startswith("/"), f"{name} would not work in a folder: {link}"
                inside = posixpath.normpath(posixpath.join(posixpath.dirname(name), unquote(link.partition("#")[0])))
                inside = name if link.startswith("#") else inside
            path = tmp_path / "site" / inside
            assert (path / "index.html" if path.is_dir() else path).is_file(), f"{name}: {link}"
            if anchor := link.partition("#")[2]:
                assert unquote(anchor) in pages[inside].ids, f"{name}: {link}"
            checked += 1
    assert checked > 100
    assert "url(" not in (tmp_path / "site" / "style.css").read_text()


def test_a_stranger_s_name_is_text_on_every_page(site):
    shown = 0
    for name, path in files(site).items():
        if name.endswith(".html"):
            page, text = Page(path.read_text()), path.read_text()
            assert len(page.all("script")) == (1 if name.startswith("boards/") else 0), name
            assert not [one for one in page.all("img") if not str(one["src"]).startswith("data:image/")], name
            assert "onerror=alert(2)>49" not in text
            shown += HOSTILE in "".join(page.text)
    assert shown >= 4  # the first page, the list of methods, the board, the method


def test_the_method_s_page_has_its_figures_on_all_boards(site):
    page = Page((site / "methods" / "ns.html").read_text())
    text = " ".join(" ".join(page.text).split())
    assert [one["href"] for one in page.all("a") if str(one["href"]).startswith("../boards/")][:3] == [
        "../boards/first-imagenet.html", "../boards/first-shapes10.html", "../boards/second-deeper-shapes10.html",
    ]  # fmt: skip
    for words in (
        "95.0",
        "88.8 to 97.8",
        "+15.0 (",
        "better",
        "eps 1/255",
        "ℓ∞ 1/255",
        "51.0",
        "nsbench run --method ns",
    ):
        assert words in text, words  # Wilson's interval of 95 of 100; 95 against 80 of the control; 51 of 100 at eps 1
    assert "weights weights- → others" in text  # the history of the second board


def test_the_first_page_says_what_the_tables_say(site, root):
    boards, problems = read_boards(root)
    assert not problems
    text = " ".join("".join(Page((site / "index.html").read_text()).text).split())
    for one in site_of(boards, problems).boards:
        assert one.board.title in text
        for sentence in one.sentences:
            assert " ".join(sentence.split()) in text
    assert "3 rows, 2 suites on shapes10" in text
    assert "3 boards" in text


def test_pictures_are_on_the_method_s_page(tmp_path):
    with_pictures(tmp_path / "results")
    write_site(tmp_path / "results", tmp_path / "site")
    page = Page((tmp_path / "site" / "methods" / "ns.html").read_text())
    assert len(page.all("img")) >= 6  # clean, attacked and the change of two samples
    assert all(one["src"].startswith("data:image/webp;base64,") for one in page.all("img"))
    assert "<square>" in "".join(page.text)


@pytest.mark.parametrize(
    "names", [("ns", "NS", "n s", "n-s", "n/s", "", "..", "é", "a" * 300, "index", "con<>", "n&s")]
)
def test_names_of_files_are_safe_apart_and_do_not_depend_on_others(names):
    taken = {"index"}
    found = [file_name(name, taken) for name in names]
    assert len({one.lower() for one in found}) == len(names)
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,70}", one) for one in found), found
    assert found[0] == "ns"
    alone = [file_name(name, {"index"}) for name in names]
    assert alone == found


# --- sizes ----------------------------------------------------------------------------------------------------------


def page_of_rows(rows):
    (table,) = build(synthetic(rows)).tables
    site = site_of([Board("many", "many", table, ())], ())
    return next(content for path, content in site.contents() if path == "boards/many.html").decode()


def test_cards_move_to_the_methods_pages_where_a_board_has_many():
    few, many = page_of_rows(CARDS), page_of_rows(CARDS + 1)
    assert len(Page(few).all("article", "card")) == 12 + CARDS
    assert len(Page(many).all("article", "card")) == 12
    for text in (few, many):
        links = [one["href"] for one in Page(text).all("a") if str(one["href"]).startswith("../methods/method")]
        assert len(links) == len(set(links)) == text.count("<tr data-r=") - 1  # the control is no method<n>


def test_a_thousand_rows_are_within_the_two_megabytes_of_a_page():
    """The slow test below measures all of it; here what grows with the rows is."""
    text = page_of_rows(150)
    own = text.partition('<tbody class="own">')[2].partition("</tbody>")[0].encode()
    assert 1000 < len(own) / 150 < 1550
    assert len(text.encode()) - len(own) < 400_000


@pytest.mark.slow
def test_every_page_of_a_thousand_methods_is_below_two_megabytes():
    (table,) = build(synthetic(1000)).tables
    site = site_of([Board("many", "many", table, ())], ())
    sizes = {path: len(content) for path, content in site.contents() if path.endswith(".html")}
    assert len(sizes) == 1000 + 4
    assert max(sizes.values()) < MOST, max(sizes, key=lambda path: sizes[path])


def test_rows_of_a_large_board_hold_the_same_figures():
    (table,) = build(synthetic(SENTENCES + 1)).tables
    text = page_of_rows(SENTENCES + 1)
    shown = re.findall(r"data-v=([\d.]+)><b class=v>([\d.]+)</b><i class=ci>±([\d.]+)</i>", text)
    wanted = [
        (str(plain(cell.value, 2)), f"{cell.value:.1f}", f"{(cell.high - cell.low) / 2:.1f}")
        for row in table.rows
        for cell in (row.cell("average"), *(row.cells[column.suite] for column in table.columns))
        if cell
    ]
    assert shown == wanted
    assert len(shown) == (SENTENCES + 1) * 13


# --- a second run ---------------------------------------------------------------------------------------------------


def test_two_runs_give_the_same_bytes_and_touch_nothing(root, site, tmp_path):
    write_site(root, tmp_path / "other", title='Ours & "theirs"', address=ADDRESS)
    assert content(tmp_path / "other") == content(site)
    before = {name: path.stat().st_mtime_ns for name, path in files(tmp_path / "other").items() if name != LIST}
    made = write_site(root, tmp_path / "other", title='Ours & "theirs"', address=ADDRESS)
    assert (made.written.removed, made.written.left) == ((), ())
    assert before == {name: path.stat().st_mtime_ns for name, path in files(tmp_path / "other").items() if name != LIST}


def test_what_is_stale_goes_and_what_is_others_stays(root, tmp_path):
    folder = tmp_path / "site"
    write_site(root, folder, address=ADDRESS)
    (folder / "CNAME").write_text("results.example")
    (folder / "methods" / "notes.html").write_text("by hand")
    (folder / "methods" / "finetune.html").write_text("changed by hand")
    made = write_site(root / "second" / "deeper", folder)
    assert set(made.written.removed) >= {"methods/pretrained.html", "boards/first-shapes10.html", "sitemap.xml"}
    assert made.written.left == ("methods/finetune.html",)
    assert (folder / "CNAME").read_text() == "results.example"
    assert (folder / "methods" / "notes.html").read_text() == "by hand"
    assert (folder / "methods" / "finetune.html").read_text() == "changed by hand"
    assert not (folder / "methods" / "pretrained.html").exists()


def test_a_file_of_somebody_else_is_not_replaced(root, tmp_path):
    (tmp_path / "index.html").write_text("mine")
    with pytest.raises(ResultError, match=r"index\.html: was not written by an earlier site; choose another folder"):
        write_site(root, tmp_path)
    assert content(tmp_path) == {"index.html": b"mine"}


def test_a_list_of_files_names_no_file_of_others(tmp_path):
    (tmp_path / "outside.html").write_text("x")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / LIST).write_text('{"files": {"../outside.html": "' + "0" * 64 + '", "CNAME": "1"}}')
    (tmp_path / "site" / "CNAME").write_text("x")
    write(tmp_path / "site", ["index.html"], [("index.html", b"new")])
    assert (tmp_path / "outside.html").exists()
    assert (tmp_path / "site" / "CNAME").exists()
    (tmp_path / "site" / LIST).write_text("[]")
    with pytest.raises(ResultError, match="is no list of a site's files"):
        write(tmp_path / "site", ["index.html"], [("index.html", b"newer")])


def test_a_stop_leaves_whole_files_and_the_next_run_goes_on(tmp_path):
    def stopped():
        yield "index.html", b"first"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, ["index.html", "404.html"], stopped())
    assert set(files(tmp_path)) == {"index.html", LIST}
    done = write(tmp_path, ["index.html", "404.html"], [("index.html", b"second"), ("404.html", b"third")])
    assert content(tmp_path)["index.html"] == b"second"
    assert done.files == ("index.html", "404.html")


# --- feed, sitemap, picture -----------------------------------------------------------------------------------------


def test_the_feed_is_read_by_a_reader(site):
    feedparser = pytest.importorskip("feedparser")
    read = feedparser.parse((site / "feed.xml").read_bytes())
    assert not read.bozo, read.get("bozo_exception")
    assert read.version == "atom10"
    assert read.feed.title == 'Ours & "theirs": changes'
    assert read.feed.updated == "2025-03-01T00:00:00Z" == max(entry.updated for entry in read.entries)
    ids = [entry.id for entry in read.entries]
    assert len(ids) == len(set(ids)) == 8  # first: 3 rows, a later result, another source; second: 2 days, another row
    titles = [entry.title for entry in read.entries]
    assert titles[0] == "second/deeper · shapes10: 1 result of NS"
    assert "first · shapes10: 1 result of NS" in titles
    assert "first · imagenet: new row NS" in titles
    assert "weights weights- → others" in read.entries[0].content[0].value
    for entry in read.entries:
        assert (site / entry.link.removeprefix(ADDRESS)).is_file()


def test_entries_keep_their_ids_when_others_come(root, tmp_path):
    boards, _ = read_boards(root / "first")
    few = {change.identity(ADDRESS) for change in changes_of(boards)}
    fewer = [replace(one, table=replace(one.table, rows=one.table.rows[:1])) for one in boards]
    assert {change.identity(ADDRESS) for change in changes_of(fewer)} < few
    assert few & {change.identity("https://other.example/") for change in changes_of(boards)} == set()


def test_a_date_that_is_none_is_no_change(site):
    assert HOSTILE not in (site / "feed.xml").read_text()
    assert ElementTree.parse(site / "feed.xml").getroot().tag == "{http://www.w3.org/2005/Atom}feed"


def test_the_sitemap_names_every_page_but_the_missing_one(site):
    space = "{http://www.sitemaps.org/schemas/sitemap/0.9}"
    found = [one.text for one in ElementTree.parse(site / "sitemap.xml").iter(f"{space}loc")]
    pages = {name for name in files(site) if name.endswith(".html")} - {"404.html"}
    assert sorted(found) == sorted(f"{ADDRESS}{name.removesuffix('index.html')}" for name in pages)
    assert f"Sitemap: {ADDRESS}sitemap.xml" in (site / "robots.txt").read_text()


@pytest.mark.parametrize("given", ["owner.example", "ftp://owner.example/", "https://", "https://a b/", 'https://a/"x'])
def test_an_address_that_is_none_is_refused(root, tmp_path, given):
    with pytest.raises(UsageError, match="give a whole address"):
        write_site(root, tmp_path / "site", address=given)
    assert not (tmp_path / "site").exists()


def test_the_picture_shows_rows(site):
    with Image.open(BytesIO((site / "social.png").read_bytes())) as picture:
        assert picture.size == (1200, 630)
        colours = {colour[:3] for _, colour in picture.convert("RGB").getcolors(1 << 24)}
    assert {(255, 255, 255), (0x00, 0x72, 0xB2)} <= colours


# --- the command ----------------------------------------------------------------------------------------------------


def called(*words):
    return CliRunner().invoke(main, ["report", *map(str, words)])


def test_the_command_says_what_it_wrote(root, tmp_path):
    done = called("--site", tmp_path / "site", "--results", root)
    assert done.exit_code == 0, done.output
    assert "index.html: 3 boards, 5 methods, " in done.output
    assert "No sitemap.xml" in done.output
    done = called("--site", tmp_path / "site", "--results", root, "--site-url", ADDRESS.rstrip("/"))
    assert done.exit_code == 0, done.output
    assert "No sitemap.xml" not in done.output


def test_a_file_that_cannot_be_read_is_named_and_the_rest_is_there(tmp_path):
    result = stored(tmp_path / "r" / "results", "ns")
    result.path.with_name("fgsm.seed0.json").write_text("{")
    done = called("--site", tmp_path / "site", "--results", tmp_path / "r")
    assert done.exit_code == 1
    assert re.search(r"problem: \S+fgsm\.seed0\.json", done.output)
    assert "fgsm.seed0.json" in (tmp_path / "site" / "index.html").read_text()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--site", "x", "--format", "md"), "--format: not of --site"),
        (("--site", "x", "--out", "y"), "--out: not of --site"),
        (("--site-url", ADDRESS), "are of --site DIR"),
    ],
)
def test_options_that_do_not_go_together_are_refused(root, words, why, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    done = called(*words, "--results", root)
    assert done.exit_code == 2
    assert why in done.output
    assert not list(tmp_path.iterdir())


def test_a_folder_without_results_is_one_line(tmp_path):
    (tmp_path / "package.json").write_text("{}")
    done = called("--site", tmp_path / "site", "--results", tmp_path)
    assert done.exit_code == 1
    assert "holds no result" in done.output
    assert not Path(tmp_path / "site").exists()
