"""A report's table in another page."""

import pytest

from mobileone_core.errors import InputError
from mobileone_core.reporting.readme import quoted_reports, update_readme, update_values
from mobileone_core.reporting.report import document_of, write_report
from mobileone_core.study.rows import StudyRecord

MARKERS = "<!-- table:branches -->{}<!-- end table:branches -->"


@pytest.fixture(scope="module")
def page(plan, rows, tmp_path_factory):
    return write_report(plan, StudyRecord(rows), tmp_path_factory.mktemp("clone") / "reports").page


@pytest.fixture
def readme(page):
    return page.parents[2] / "README.md"


def test_block_is_replaced_and_the_rest_kept(page, readme):
    readme.write_text(f"# Before\n\n{MARKERS.format(' old ')}\n\nAfter [a link](docs/x.md)\n")
    assert update_readme(readme, page)
    text = readme.read_text()
    start, end = (page.read_text().index(marker) for marker in MARKERS.split("{}"))
    block = page.read_text()[start:end].replace("](figure.png)", "](reports/branches/figure.png)")
    assert text == f"# Before\n\n{block}<!-- end table:branches -->\n\nAfter [a link](docs/x.md)\n"
    assert "| 4 | 98.50 ± 1.14 | 3 | 0.46 | +2.00 [+1.56, +2.44] | better |" in text
    assert not update_readme(readme, page)


@pytest.mark.parametrize("text", ["none", MARKERS.format("") * 2, "<!-- end table:branches --><!-- table:branches -->"])
def test_readme_without_one_block_is_refused(page, readme, text):
    readme.write_text(text)
    with pytest.raises(InputError, match="one <!-- table:branches --> and one"):
        update_readme(readme, page)
    assert readme.read_text() == text


def test_page_without_a_block_is_refused(tmp_path):
    (tmp_path / "page.md").write_text("nothing")
    (tmp_path / "README.md").write_text(MARKERS.format(""))
    with pytest.raises(InputError, match="no <!-- table:NAME --> block"):
        update_readme(tmp_path / "README.md", tmp_path / "page.md")


@pytest.fixture(scope="module")
def document(plan, rows):
    return document_of(plan, StudyRecord(rows))


def test_values_are_filled_by_fact_and_by_cell(document, readme):
    text = (
        "In <!-- value:branches:cells -->?<!-- end value --> cells k = 4 gives "
        "<!-- value:branches:4/measured test top-1, % --><!-- end value -->, n = <!-- value:branches:n -->0"
        "<!-- end value -->; <!-- value:other:n -->7<!-- end value --> elsewhere"
    )
    readme.write_text(text)
    assert update_values(readme, "branches", document)
    plain = readme.read_text()
    for value in ("-->9<!--", "-->98.50 ± 1.14<!--", "-->3<!--", "-->7<!--"):
        assert value in plain
    assert not update_values(readme, "branches", document)
    assert quoted_reports(plain) == {"branches", "other"}


def test_tables_of_sections_are_quoted_too(document):
    assert document.value("4/parameters, trained") == "73,834"
    assert document.value("4/published S0") == "71.4"
    assert document.value("detectable") == "0.57 points"


@pytest.mark.parametrize("key", ["seeds", "5/n", "4/top-5"])
def test_unknown_value_is_refused_by_name(document, readme, key):
    readme.write_text(f"<!-- value:branches:{key} -->1<!-- end value -->")
    with pytest.raises(InputError, match=f"value of branches: '{key}' is not allowed; one of n, cells, "):
        update_values(readme, "branches", document)


def test_value_marker_without_an_end_is_refused(document, readme):
    readme.write_text("<!-- value:branches:n -->1\n<!-- value:branches:cells -->1<!-- end value -->")
    with pytest.raises(InputError, match="<!-- value:branches:n --> needs an <!-- end value -->"):
        update_values(readme, "branches", document)
