"""The site in reports/: whole, small, without a network, for every reader, and with the numbers of the cells."""

import re
from urllib.parse import unquote

import pytest
from site_pages import PAGES, REPORTS, Page, cells_of, level_table

from mobileone_core.reporting.document import Figure
from mobileone_core.reporting.report import AnalysedRecord, read_saved_plan, write_index, write_report
from mobileone_core.reporting.site import UI, inline_svg
from mobileone_core.study.rows import StudyRecord

NAMES = [page.relative_to(REPORTS).as_posix() for page in PAGES]
each_page = pytest.mark.parametrize("page", PAGES, ids=NAMES)


def test_every_report_has_a_page():
    assert set(NAMES) == {"index.html", *(f"{path.parent.name}/index.html" for path in REPORTS.glob("*/plan.json"))}


@each_page
def test_page_is_small_and_loads_nothing(page):
    assert page.stat().st_size <= (300_000 if page.parent == REPORTS else 600_000)
    parsed = Page(page)
    loaded = [value for attrs in parsed.all("link", "script", "img", "iframe", "source", "use", "image", "object")
              for name, value in attrs.items() if name in ("src", "href", "xlink:href", "srcset", "data")]  # fmt: skip
    assert not [value for value in loaded if not value.startswith(("#", "data:"))]
    assert "@import" not in parsed.text
    assert not re.findall(r"url\((?!#)", parsed.text)
    assert "fetch(" not in parsed.text


@each_page
def test_ids_are_unique_and_links_lead_somewhere(page):
    parsed = Page(page)
    ids = [attrs["id"] for _, attrs in parsed.elements if "id" in attrs]
    assert len(set(ids)) == len(ids)
    for attrs in parsed.all("a"):
        if attrs.get("class") == "run":
            assert re.fullmatch(rf"{UI}/#/runs/[0-9a-f]{{32}}", attrs["href"])
            continue
        target, _, anchor = attrs["href"].partition("#")
        path = (page.parent / unquote(target)).resolve() if target else page
        assert path.is_file()
        assert REPORTS in path.parents
        assert not anchor or f'id="{anchor}"' in path.read_text(encoding="utf-8")
    inside = re.findall(r'(?:xlink:href="|url\()#([^")]+)', parsed.text)
    labels = [name for _, attrs in parsed.elements for name in attrs.get("aria-labelledby", "").split()]
    assert {*inside, *labels} <= set(ids)


@each_page
def test_page_is_for_every_reader(page):
    parsed = Page(page)
    tags = [tag for tag, _ in parsed.elements]
    assert parsed.all("html") == [{"lang": "en"}]
    assert [tags.count(tag) for tag in ("main", "h1", "title")] == [1, 1, 1]
    assert parsed.all("a")[0] == {"class": "skip", "href": "#main"}
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in parsed.all("meta")
    assert all(attrs.get("scope") in ("col", "row") for attrs in parsed.all("th"))
    assert all(attrs.get("role") == "img" and attrs["aria-label"] for attrs in parsed.all("svg"))
    assert all(attrs["alt"] and attrs["src"].startswith("data:image/png;base64,") for attrs in parsed.all("img"))
    assert tags.count("svg") + tags.count("img") == tags.count("figure") == tags.count("figcaption")
    scrolling = [attrs for attrs in parsed.all("div") if attrs.get("class") == "scroll"]
    assert len(scrolling) == tags.count("table")
    assert all(attrs["tabindex"] == "0" and attrs["role"] == "region" for attrs in scrolling)
    labelled = {attrs["for"] for attrs in parsed.all("label")}
    assert {attrs["id"] for attrs in parsed.all("input", "select")} == labelled
    for text in ("prefers-color-scheme: dark", "@media print", ":focus-visible", "aria-sort"):
        assert text in parsed.text


@pytest.mark.parametrize("page", PAGES[:-1], ids=NAMES[:-1])
def test_caption_has_two_sentences(page):
    for caption in re.findall(r"<figcaption>(.*?)</figcaption>", page.read_text(encoding="utf-8")):
        assert len(re.findall(r"\.(?=\s|$)", caption)) == 2


def test_ledger_quotes_the_reports_tables():
    """The evidence on k = 4 against k = 1 is the row of the study's page."""
    _, rows = level_table(REPORTS / "branch_count")
    index = Page(REPORTS / "index.html")
    here = next(row[3] for row in index.tables[0] if row[1].startswith("k = 4 branches make a small network"))
    quoted = re.escape(rows[("4",)][3].replace(" [", " points ["))
    assert re.search(rf"tiny on digits(, [^)]*\))?: {quoted}", here)


def test_svg_becomes_an_element(tmp_path):
    svg = '<?xml version="1.0"?>\n<!DOCTYPE svg>\n<svg xmlns:xlink="http://x" width="5pt" viewBox="0 0 5 5" xmlns="http://s">\n'
    svg += '<metadata><a href="http://b"/></metadata><style type="text/css">*{stroke: red}</style><!-- a -->\n'
    (tmp_path / "f.svg").write_text(svg + '<path id="p"/><use xlink:href="#p"/><g clip-path="url(#p)"/></svg>\n')
    text = inline_svg(tmp_path / "f.svg", Figure("f", 'A "b"'))
    assert text == (
        '<svg xmlns:xlink="http://x" viewBox="0 0 5 5" role="img" aria-label="A &quot;b&quot;">\n<style>figure svg *'
        '{stroke: red}</style><path id="f-p"/><use xlink:href="#f-p"/><g clip-path="url(#f-p)"/></svg>'
    )


def test_site_follows_the_record(plan, rows, tmp_path, monkeypatch):
    """The same record leaves every byte; a changed one, or a damaged report, changes the pages that show it."""
    from mobileone_core.reporting.figures import levels

    monkeypatch.setattr(levels, "draw", lambda _: levels.style.Drawing(b"png", b"<svg><g/></svg>"))
    home = write_report(plan, StudyRecord(rows), tmp_path).directory
    write_index(tmp_path)
    page, index = (home / "index.html").read_text(), (tmp_path / "index.html").read_text()
    assert "98.50 ±" in page
    assert "The paper's claims" not in index  # no report is evidence of a claim
    for written in (
        None,
        {home: AnalysedRecord(read_saved_plan(home), StudyRecord(rows))},
    ):  # read from the files, or at hand
        write_index(tmp_path, written)
        assert (page, index) == ((home / "index.html").read_text(), (tmp_path / "index.html").read_text())
    write_report(plan, StudyRecord(rows[:-1]), tmp_path)
    write_index(tmp_path)
    assert "98.50 ±" not in (home / "index.html").read_text()
    (home / "plan.json").write_text("{}")
    write_index(tmp_path)
    assert "branches/index.html" not in (tmp_path / "index.html").read_text()


@pytest.fixture
def visit(browser):
    """Opens a file in a window of 1,000 px; gives the page, its errors, and what it loaded but itself."""

    def open_page(path):
        page = browser.new_page(viewport={"width": 1000, "height": 900})
        errors, requests = [], []
        page.on("console", lambda message: errors.append(message.text) if message.type != "log" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(path.as_uri())
        return page, errors, [url for url in requests if url != path.as_uri() and not url.startswith("data:")]

    return open_page


def background(page, scheme):
    page.emulate_media(color_scheme=scheme)
    return page.evaluate("getComputedStyle(document.body).backgroundColor")


@pytest.mark.slow
def test_every_page_in_a_browser(visit):
    """No error, no request, no sideways scrolling at 400 px, light and dark; tables sort by mouse and by keyboard."""
    for path in PAGES:
        page, errors, requests = visit(path)
        assert background(page, "light") == "rgb(255, 255, 255)"
        assert background(page, "dark") == "rgb(13, 17, 23)"
        head = page.locator("table.sortable").first.locator("th").first
        firsts = page.locator("table.sortable").first.locator("tbody tr > :first-child")
        before = firsts.all_text_contents()
        head.locator("button").click()
        up = firsts.all_text_contents()
        assert (head.get_attribute("aria-sort"), sorted(up)) == ("ascending", sorted(before))
        page.keyboard.press("Enter")
        down = firsts.all_text_contents()
        assert head.get_attribute("aria-sort") == "descending"
        assert len(set(down)) == 1 or down[0] != up[0], path
        page.set_viewport_size({"width": 400, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= 400, path
        assert (errors, requests) == ([], []), path
        page.close()


@pytest.mark.slow
def test_index_in_a_browser_filters_by_words_and_state(visit):
    page, errors, _ = visit(REPORTS / "index.html")
    shown = page.locator("table.filtered tbody tr:not([hidden])")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.fill("#search", "squeeze latency")
    assert 2 <= shown.count() < 10
    assert page.inner_text("#matches") == f"{shown.count()} shown"
    page.fill("#search", "")
    page.select_option("#state", "contradicted")
    states = [
        attrs["data-states"].split("|") for attrs in Page(REPORTS / "index.html").all("tr") if "data-states" in attrs
    ]
    assert shown.count() == sum("contradicted" in its for its in states) > 0
    assert not errors


@pytest.mark.slow
def test_run_ids_lead_into_a_running_ui(visit):
    """The address is that of `mobileone ui` by default; MLflow's UI finds a run's experiment by its id."""
    page, *_ = visit(REPORTS / "branch_count" / "index.html")
    runs = [line["run_id"] for line in cells_of(REPORTS / "branch_count")]
    links = page.locator("a.run").evaluate_all(
        "links => links.map(link => [link.textContent, link.getAttribute('href')])"
    )
    assert links == [[run, f"{UI}/#/runs/{run}"] for run in runs]
