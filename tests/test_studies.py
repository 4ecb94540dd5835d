"""Every study runs from its command to its report, in small, and a second time does nothing."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from mobileone_core.reporting.report import read_report
from mobileone_core.study.declaration import Study
from mobileone_core.study.kinds import default_plan
from mobileone_core.study.measured import MeasuredStudy
from mobileone_core.study.search import SearchStudy
from mobileone_core.study.state import cell_states
from mobileone_core.study.workspace import Workspace

ROOT = Path(__file__).parents[1]
STUDIES = sorted(path.stem for path in (ROOT / "studies").glob("*.py"))


def declared(study):
    return runpy.run_path(str(ROOT / "studies" / f"{study}.py"))["STUDY"]


TRAINED = [study for study in STUDIES if isinstance(declared(study), Study)]
SEARCHED = [study for study in STUDIES if isinstance(declared(study), SearchStudy)]
MEASURED = [study for study in STUDIES if isinstance(declared(study), MeasuredStudy)]
SMALL = {
    Study: ("--seeds", "1", "--epochs", "2"),
    MeasuredStudy: ("--rounds", "6", "--burst", "1"),
    SearchStudy: ("--seeds", "1", "--epochs", "2", "--generations", "1", "--population", "2"),
}
# Of the measured ones, networks enough for every kind of row: ours, another library's, a gap.
FEWER = {
    "reparam_latency": ("--model", "mobileone_s0", "mobileone_s1", "--image-size", "96"),
    "metric_correlation": ("--model", "mobileone_s0", "mobilenet_v2", "mnasnet_a1", "repvgg_a0", "mobileformer_52"),
    "training_cost": ("--variant", "s1", "--k", "1", "2", "--batch-size", "16", "--image-size", "32", "--threads", "1"),
    "backbone_comparison": ("--model", "mobileone_s0", "mobilenet_v2", "mnasnet_a1", "repvgg_a0", "mobileformer_52"),
}


def run(study, *options):
    command = [sys.executable, str(ROOT / "studies" / f"{study}.py"), *SMALL[type(declared(study))]]
    command += [*FEWER.get(study, ()), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("study", STUDIES)
def test_a_study_runs_to_its_report(study, tmp_path):
    asked = declared(study)
    told = run(study, "--runs", str(tmp_path))
    assert asked.question in told
    page = Path(told.rpartition("report: ")[2].strip())
    plan, record = read_report(page.parent)
    if study in SEARCHED:
        assert [len(cells) for cells in plan.generations] == [4, 2]
    else:
        assert len(plan.cells if study in TRAINED else record.comparison) == len(list(plan.study.settings))
    assert {cell.key for cell in (*plan.teachers, *plan.cells)} == {row.key for row in record.rows}
    assert bool(record.comparison) == bool(plan.comparisons)
    assert {point.metric for point in record.curves} == set(asked.curves)
    assert not record.problems
    assert all(item.state == "complete" for item in cell_states(Workspace.at(tmp_path), plan))
    kept = {path.name: path.read_bytes() for path in page.parent.iterdir()}
    again = run(study, "--runs", str(tmp_path))
    assert "nothing to do" in again
    assert {path.name: path.read_bytes() for path in page.parent.iterdir()} == kept


@pytest.mark.parametrize("study", STUDIES)
def test_a_study_says_how_it_is_run(study):
    """Its docstring names the paper's place, or that there is none, and the command; its plan is no other's."""
    path = ROOT / "studies" / f"{study}.py"
    text = runpy.run_path(str(path))["__doc__"]
    assert f"python studies/{study}.py" in text
    assert "MobileOne" in text
    assert 15 <= len(path.read_text().splitlines()) <= 80
    plan = default_plan(declared(study))
    assert plan.study.name == plan.queue == study
