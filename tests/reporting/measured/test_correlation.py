"""The page of a study that asks whether cost tells latency."""

from dataclasses import replace

import pytest

from mobileone_core.latency.cell import LatencyCell
from mobileone_core.reporting.measured.correlation import CorrelationView, against_published, measured_correlations
from mobileone_core.reporting.measured.result import analyse_measured
from mobileone_core.reporting.report import read_report, write_report
from mobileone_core.study.declaration import Factor
from mobileone_core.study.measured import MeasuredPlan, MeasuredStudy
from mobileone_core.study.rows import CellRow, StudyRecord

MODELS = ("mobileone_s0", "mobileone_s1", "mobilenet_v1", "mobilenet_v2", "efficientnet_b0", "mixnet_s", "deit_tiny")
MACS = (275e6, 825e6, 575e6, 300e6, 390e6, 256e6, 1300e6)
STUDY = MeasuredStudy(
    name="metric_correlation",
    question="Do multiply-adds and parameters tell latency?",
    factors=(Factor("model", "network.model", levels=MODELS, baseline="mobileone_s0"),),
    reference="figures 2 and 3, table 1",
    base=LatencyCell(),
    view="correlation",
)
DEVICE = {"device": "cpu", "processor": "Any CPU"}


@pytest.fixture
def plan():
    return MeasuredPlan(STUDY, default=True)


@pytest.fixture
def record(plan):
    """Latency rises with multiply-adds but for the last; parameters fall with it."""
    rows = []
    for number, (entry, macs) in enumerate(zip(plan.spec.entries, MACS, strict=True)):
        time = macs / 1e8 if entry.label != "deit_tiny" else 1.0
        metrics = {"latency/median_ms": time, "macs": macs, "params": 1e7 / time, "control/latency_ratio": 1.0}
        rows.append(CellRow(plan.comparison.key, 0, dict(entry.factors), f"run{number}", metrics, DEVICE))
    return StudyRecord((), (), tuple(rows))


def test_correlations_are_of_the_measured_models(plan, record):
    macs, params = measured_correlations(analyse_measured(plan, record), "onnxruntime")
    assert macs.n == 7
    assert macs.rho == pytest.approx(0.25)
    assert params.rho == pytest.approx(-1)
    less = replace(record, comparison=record.comparison[:-1])
    macs, _ = measured_correlations(analyse_measured(plan, less), "onnxruntime")
    assert (macs.n, macs.rho) == (6, 1.0)


def test_measured_and_published_rows_are_separate(plan, record):
    view = CorrelationView()
    rows = {row[0]: row for row in view.table(analyse_measured(plan, record)).rows}
    assert rows["measured here, onnxruntime"][1] == "7"
    assert rows["published table 1, cpu"] == ("published table 1, cpu", "21", "0.06", "0.80", "0.07", "0.77")
    assert rows["published table 9, cpu, models of figure 2"][2].startswith("0.08 [")
    assert rows["published table 9, cpu, all models"][2].startswith("0.43 [")
    empty = {row[0]: row for row in view.table(analyse_measured(plan, StudyRecord())).rows}
    assert {name: row for name, row in empty.items() if name.startswith("published")} == {
        name: row for name, row in rows.items() if name.startswith("published")
    }
    assert empty["measured here, onnxruntime"] == ("measured here, onnxruntime", "0", "-", "-", "-", "-")


def test_against_the_published_latencies(plan, record):
    """All seven have a name in table 9."""
    table = against_published(analyse_measured(plan, record))
    assert [cell.rpartition(", ")[2] for cell in table.rows[0][1:]] == ["7", "7"]


@pytest.mark.parametrize("number", [0, 1, 7])
@pytest.mark.slow
def test_page_comes_back(plan, record, tmp_path, number):
    files = write_report(plan, replace(record, comparison=record.comparison[:number]), tmp_path)
    again = write_report(*read_report(files.directory), tmp_path / "again")
    names = sorted(path.name for path in files.directory.iterdir())
    assert all((files.directory / name).read_bytes() == (again.directory / name).read_bytes() for name in names)
    page = files.page.read_text()
    assert "depends on the choice of models" in page or number == 0
    assert "Bonett" in page
