"""Example images of detectors and segmenters in reports: kept in the directory, shown on the page and in the site."""

import base64
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from PIL import Image

from mobileone_core.cli import console
from mobileone_core.reporting.merge import MergedReport, merged
from mobileone_core.reporting.report import AnalysedRecord, read_report, with_examples, write_index, write_report
from mobileone_core.study.grid import GridPlan
from mobileone_core.study.record.reading import read_record
from mobileone_core.study.workspace import Workspace

pytestmark = pytest.mark.slow
REPORTS = Path(__file__).parents[2] / "reports"


def picture(seed):
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (6, 9, 3), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def shown():
    """The plan of the committed report, and its record with examples of three cells, two of them of one level."""
    plan, record = read_report(REPORTS / "detection")
    wanted = ("tiny", 0), ("tiny", 1), ("small", 1)
    chosen = [cell.key for cell in plan.cells if (cell.factors["backbone"], cell.seed) in wanted]
    return plan, replace(record, examples={key: picture(index) for index, key in enumerate(chosen)})


def test_a_report_shows_the_first_cell_of_each_level_and_stays_as_it_is(shown, tmp_path):
    plan, record = shown
    files = write_report(plan, record, tmp_path)
    page = files.page.read_text(encoding="utf-8")
    [tiny] = [cell.key for cell in plan.cells if (cell.factors["backbone"], cell.seed) == ("tiny", 0)]
    [small] = [cell.key for cell in plan.cells if (cell.factors["backbone"], cell.seed) == ("small", 1)]
    assert re.findall(r"\(examples-(\w+)\.png\)", page) == [tiny, small]
    for text in ("backbone = tiny, seed 0, the worst first.", "backbone = small, seed 1, the worst first."):
        [caption] = [line for line in page.splitlines() if text in line]
        assert len(re.findall(r"\.(?:\s|$)", caption)) == 2
    assert (files.directory / f"examples-{tiny}.png").read_bytes() == record.examples[tiny]
    before = {path.name: path.read_bytes() for path in files.directory.iterdir()}
    again = read_report(files.directory)  # from its files alone
    assert again[1].examples == record.examples
    assert not write_report(*again, tmp_path).rendered
    write_report(*again, tmp_path / "elsewhere")
    assert {path.name: path.read_bytes() for path in (tmp_path / "elsewhere" / "detection").iterdir()} == before
    write_report(plan, replace(record, examples={**record.examples, tiny: picture(9)}), tmp_path)
    assert (files.directory / f"examples-{tiny}.png").read_bytes() == picture(9)


def test_a_record_without_examples_keeps_those_of_its_cells(shown, tmp_path):
    plan, record = shown
    home, first = write_report(plan, record, tmp_path).directory, next(iter(record.examples))
    bare = replace(record, examples={})
    assert with_examples(bare, home).examples == record.examples
    assert with_examples(replace(bare, examples={first: b"other"}), home).examples[first] == b"other"
    rows = [row for row in bare.rows if row.key != first]  # a run that was excluded
    assert first not in with_examples(replace(bare, rows=rows), home).examples
    write_report(plan, with_examples(replace(bare, rows=rows), home), tmp_path)
    assert not (home / f"examples-{first}.png").exists()


def test_the_site_holds_them(shown, tmp_path):
    plan, record = shown
    home = write_report(plan, record, tmp_path).directory
    write_index(tmp_path, {home: AnalysedRecord(plan, record)})
    page = (home / "index.html").read_text(encoding="utf-8")
    found = re.findall(r'<img src="data:image/png;base64,([^"]+)" alt="[^"]+"><figcaption>The test images', page)
    keys = re.findall(r"examples-(\w+)\.png\)", (home / "README.md").read_text(encoding="utf-8"))
    assert [base64.b64decode(text) for text in found] == [record.examples[key] for key in keys]


def test_joined_reports_have_the_examples_of_both(shown):
    plan, record = shown
    one, *others = record.examples.items()
    parts = [replace(record, examples=dict([one])), replace(record, examples=dict(others))]
    [(_, joined)] = merged([MergedReport(plan, part, str(index)) for index, part in enumerate(parts)])
    assert joined.examples == record.examples


@pytest.mark.slow
def test_examples_come_from_the_record(record_cell, tmp_path, monkeypatch, capsys):
    """One cell of each level: the first seed that has some; `mobileone report` in a copied runs directory."""
    monkeypatch.setattr("mobileone_core.data.annotated.loaders.SCENES", {"train": 16, "val": 16, "test": 16})
    plan, _ = read_report(REPORTS / "detection")
    plan = GridPlan(replace(plan.study, seeds=2, figure="levels"), plan.base)
    workspace = Workspace.at(tmp_path / "runs")
    runs = {cell.key: record_cell(workspace, cell.spec, study="detection") for cell in plan.cells}
    client = MlflowClient(workspace.tracking)
    [_, *chosen] = [cell for cell in plan.cells if cell.factors["backbone"] == "tiny"]
    chosen += [cell for cell in plan.cells if cell.factors["backbone"] == "small"]
    for cell in plan.cells:
        client.set_tag(runs[cell.key], "queue", plan.queue)
        client.set_tag(runs[cell.key], "factors", f'{{"backbone": "{cell.factors["backbone"]}"}}')
    for index, cell in enumerate(chosen):
        (tmp_path / "examples.png").write_bytes(picture(index))
        client.log_artifact(runs[cell.key], str(tmp_path / "examples.png"))
    expected = {chosen[0].key: picture(0), chosen[1].key: picture(1)}
    assert read_record(workspace.tracking, plan).examples == expected
    workspace.runs.rename(tmp_path / "moved")
    moved = Workspace.at(tmp_path / "moved")
    assert read_record(moved.tracking, plan).examples == expected
    client = MlflowClient(moved.tracking)
    number = client.get_experiment_by_name("detection").experiment_id
    client.set_experiment_tag(number, f"plan.{plan.id}", plan.to_json())
    for _ in range(2):
        with pytest.raises(SystemExit) as ended:
            console(["report", "--runs", str(moved.runs), "--reports", str(tmp_path / "reports")])
        assert not ended.value.code, capsys.readouterr().err
        homes = [path.parent for path in (tmp_path / "reports").glob("*/plan.json")]
        assert {path.name for path in homes[0].glob("examples-*")} == {f"examples-{key}.png" for key in expected}
        assert "data:image/png" in (homes[0] / "index.html").read_text(encoding="utf-8")
        for path in moved.runs.rglob("examples.png"):
            path.unlink()  # the report keeps them
