"""A report's table in another page."""

import pytest

from mobileone_core.errors import InputError
from mobileone_core.reporting.readme import update_readme
from mobileone_core.reporting.report import write_report
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
