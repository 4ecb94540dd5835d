"""The card of reporting: its example runs, and its quoted values are those of the report."""

import re
from pathlib import Path

import mobileone_core.reporting
from mobileone_core.reporting.readme import update_values
from mobileone_core.reporting.report import document_of, read_report

ROOT = Path(__file__).parents[2]
CARD = Path(mobileone_core.reporting.__file__).parent / "README.md"
REPORT = ROOT / "reports" / "branch_count"


def test_example_writes_the_same_report(tmp_path, monkeypatch):
    (tmp_path / "reports").symlink_to(ROOT / "reports")
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"```python\n(.*?)```", CARD.read_text(), re.DOTALL)
    exec(compile(example, CARD, "exec"), {})
    page = tmp_path / "elsewhere" / "branch_count" / "README.md"
    assert page.read_bytes() == (REPORT / "README.md").read_bytes()


def test_quoted_values_are_those_of_the_report(tmp_path):
    copy = tmp_path / "README.md"
    copy.write_text(CARD.read_text())
    assert not update_values(copy, "branch_count", document_of(*read_report(REPORT)))
