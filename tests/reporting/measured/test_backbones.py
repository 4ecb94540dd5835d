"""The page that compares backbones: published columns whole, measured ones separate, accuracies if any."""

from dataclasses import replace

import pytest

from mobileone_core.latency.cell import LatencyCell
from mobileone_core.reporting.measured import table9
from mobileone_core.reporting.measured.backbones import BackbonesView, measured_points, pareto_front
from mobileone_core.reporting.measured.result import analyse_measured
from mobileone_core.reporting.report import read_report, write_report
from mobileone_core.study.declaration import Factor
from mobileone_core.study.measured import MeasuredPlan, MeasuredStudy
from mobileone_core.study.rows import CellRow, DeviceRow, EvaluationRow, StudyRecord

MODELS = ("mobileone_s0", "mobileone_s1", "efficientnet_b0", "mobileone_tiny")
STUDY = MeasuredStudy(
    name="backbone_comparison",
    question="Which backbone is fast and accurate?",
    factors=(Factor("model", "network.model", levels=MODELS, baseline="mobileone_s0"),),
    reference="figures 1 and 11, table 9",
    published="table9_imagenet",
    view="backbones",
)
DEVICE = {"device": "cpu", "processor": "Any CPU"}
NONE = "not measured"
EVALUATION = EvaluationRow(
    "s0", "imagenet", "test", "deployed", "0.875", "bilinear", "224", "abc", "evaluation1", 0.714, 50000.0
)


@pytest.fixture
def plan():
    return MeasuredPlan(STUDY, default=True)


@pytest.fixture
def record(plan):
    """10, 20, 15 and 12 ms: EfficientNet-B0 is faster than S1 and better."""
    rows = [
        CellRow(plan.comparison.key, 0, dict(entry.factors), f"run{time}", {"latency/median_ms": time}, DEVICE)
        for entry, time in zip(plan.spec.entries, (10.0, 20.0, 15.0, 12.0), strict=True)
    ]
    return StudyRecord((), (), tuple(rows))


def rows_of(plan, record):
    table = BackbonesView().table(analyse_measured(plan, record))
    return {row[0]: row[1:] for row in table.rows}


def test_all_of_table_9_next_to_ours(plan, record):
    rows = rows_of(plan, record)
    assert len(rows) == 30
    assert rows["MobileOne-S0"] == ("71.4", "275", "2.1", "10.55", "0.56", "0.79", NONE, "10.0", NONE)
    assert rows["MobileViT-S"] == ("78.4", "1792", "5.6", "30.76", "-", "9.21", NONE, NONE, NONE)
    assert [row[:6] for row in rows_of(plan, StudyRecord()).values()] == [row[:6] for row in rows.values()]


def test_networks_that_were_not_requested_have_no_row(plan, record):
    fewer = replace(plan, default=False)
    assert set(rows_of(fewer, record)) == {"MobileOne-S0", "MobileOne-S1", "EfficientNet-B0"}


def test_a_part_of_imagenet_gives_no_value_and_is_mentioned(plan, record):
    toy = replace(record, evaluations=(replace(EVALUATION, top1=0.002, images=1000.0),))
    assert rows_of(plan, toy)["MobileOne-S0"][8] == NONE
    notes = " ".join(BackbonesView().notes(analyse_measured(plan, toy)))
    assert "*Not in the table*: 1 evaluation of other images" in notes
    assert "*Measured top-1*: none is in the record" in notes


def test_no_time_without_its_device(plan, record):
    bare = [replace(row, environment={}) for row in record.comparison]
    assert rows_of(plan, replace(record, comparison=bare))["MobileOne-S0"][7] == NONE


@pytest.mark.slow
def test_accuracy_of_an_evaluation_comes_back(plan, record, tmp_path):
    evaluated = replace(record, evaluations=(EVALUATION, replace(EVALUATION, data="digits", run_id="other")))
    assert rows_of(plan, evaluated)["MobileOne-S0"][8] == "71.40 ± 0.20"
    files = write_report(plan, evaluated, tmp_path / "one")
    again = write_report(*read_report(files.directory), tmp_path / "two")
    names = sorted(path.name for path in files.directory.iterdir())
    assert "evaluations.csv" in names
    assert names == sorted(path.name for path in again.directory.iterdir())
    assert all((files.directory / name).read_bytes() == (again.directory / name).read_bytes() for name in names)
    assert write_report(plan, record, tmp_path / "one").rendered
    assert not (files.directory / "evaluations.csv").exists()


@pytest.mark.slow
def test_device_latencies_have_separate_columns_and_come_back(plan, record, tmp_path):
    device = DeviceRow(
        *("mobileone_s0", "ab12", "Phone 1", "iOS 0.0", "all", "modelbench"),
        {"low": 1.25, "average": 1.5},
        1000,
        *("device1", "imported", "2026-01-01"),
    )
    other = replace(device, protocol="xcode-report", statistics={"median": 2.0}, run_id="device2")
    shown = replace(record, devices=(device, other))
    rows = rows_of(plan, shown)
    assert rows["MobileOne-S0"][5:10] == ("0.79", "1.25", "1.50", "2.00", "10.0")
    assert rows["MobileOne-S1"][6:9] == (NONE, NONE, NONE)
    files = write_report(plan, shown, tmp_path / "one")
    assert "devices.csv" in {path.name for path in files.directory.iterdir()}
    again = write_report(*read_report(files.directory), tmp_path / "two")
    assert files.page.read_bytes() == again.page.read_bytes()


def test_fronts_are_of_one_kind_of_latency(plan, record):
    result = analyse_measured(plan, record)
    assert [name for name, _, _ in pareto_front(measured_points(result, "onnxruntime"))] == [
        "MobileOne-S0",
        "EfficientNet-B0",
    ]
    published = [name for name, _, _ in pareto_front(table9.points("mobile_ms", "top1"))]
    assert published[:4] == ["ShuffleNetV2-1.0", "MobileOne-S0", "MobileOne-S1", "MobileOne-S2"]


def test_page_says_what_the_panels_are(plan, record, tmp_path):
    page = write_report(plan, record, tmp_path).page.read_text()
    assert "Published accuracy against latency measured here (cpu, Any CPU, onnxruntime; 3 models)" in page
    assert "## Networks that table 9 lacks" in page
    assert "| MobileOne tiny (ours) | - | - | - | - | - |" in page
    assert "none is in the record" in page


def test_newer_networks_have_their_own_table_and_each_device_its_column(plan, record):
    names = ("mobileone_s0", "mobileone_s1", "fastvit_t8", "repvit_m0_9", "timm:resnet10t", "resnet50")
    study = replace(STUDY, factors=(replace(STUDY.factors[0], levels=names),), base=LatencyCell(batch_size=2))
    chosen = MeasuredPlan(study, default=False)
    more = {"throughput/images_per_second": 200.0, "unfolded/params": 5e6, "unfolded/difference": 3e-7}
    rows = [
        CellRow(chosen.comparison.key, 0, dict(entry.factors), entry.label, {"latency/median_ms": 10.0, **more}, DEVICE)
        for entry in chosen.spec.entries
    ]
    result = analyse_measured(chosen, StudyRecord((), (), tuple(rows)))
    table, every = (section.blocks[0] for section in BackbonesView().sections(result))
    heads = [column.head for column in table.columns]
    assert heads[4:7] == ["published, iPhone 12", "published, iPhone 12 Pro", "measured here, onnxruntime"]
    cells = {row[0]: row[1:] for row in table.rows}
    assert list(cells) == ["MobileOne-S1", "FastViT-T8", "RepViT-M0.9", "timm:resnet10t", "ResNet-50 (modern recipe)"]
    assert cells["FastViT-T8"][:6] == ("76.2", "4.0", "256", "-", "0.8", "10.0")
    assert cells["RepViT-M0.9"][:5] == ("78.7", "5.5", "224", "0.9", "-")
    assert cells["timm:resnet10t"] == ("-", "-", "-", "-", "-", "10.0", "-")
    assert cells["ResNet-50 (modern recipe)"][:4] == ("81.214", "25.56", "288", "-")
    extra = dict(zip((column.head for column in every.columns), every.rows[0], strict=True))
    assert (extra["parameters before folding"], extra["outputs changed by"]) == ("5,000,000", "3e-07")
    assert extra["throughput"].startswith("200")
    points = {point.name: point.y for point in measured_points(result, "onnxruntime")}
    assert points["RepViT-M0.9"] == 78.7
    assert points["MobileOne-S1"] == 75.9  # table 9's, not timm's
    assert "MobileOne-S0" in points
    others = {"FastViT-T8", "ResNet-50 (modern recipe)"}  # published at 256 and 288 px, measured at 224
    assert not {"timm:resnet10t", *others} & points.keys()
