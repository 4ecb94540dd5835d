"""Every study runs from its command to its report, in small, and a second time does nothing."""

import contextlib
import io
import runpy
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from mobileone_core.benchmark.protocol import Protocol
from mobileone_core.benchmark.spec import DeployedSpec, FormsSpec
from mobileone_core.cli.options.study import parse
from mobileone_core.reporting.report import read_report
from mobileone_core.study.declaration import Study
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
    Study: ("--seeds", "1", "--epochs", "2", "--image-size", "16", "--batch-size", "512"),
    MeasuredStudy: ("--rounds", "6", "--burst", "1"),
    SearchStudy: ("--seeds", "1", "--epochs", "1", "--ema-decay", "0", "--generations", "1", "--population", "2"),
}
SCENES = ("--seeds", "1", "--epochs", "1", "--image-size", "16", "--batch-size", "512")  # an epoch of them is long
# Levels enough for every kind of row. Of the networks: ours, another library's, a gap.
FEWER = {
    "activation": ("--activation", "relu", "silu", "dynamic_shift_max"),
    "branch_count": ("--k", "1", "2", "16"),
    "activation_latency": ("--activation", "relu", "se_relu", "dynamic_relu_b_rank5", "--image-size", "32"),
    "block_latency": ("--image-size", "32"),
    "reparam_latency": ("--model", "mobileone_s0", "--image-size", "64", "--form", "deployed", "train-k2"),
    "metric_correlation": ("--model", "mobileone_s0", "mobilenet_v2", "mnasnet_a1", "mobileformer_52"),
    "training_cost": (
        "--variant",
        "tiny",
        "--k",
        "1",
        "2",
        "--batch-size",
        "16",
        "--image-size",
        "32",
        "--threads",
        "1",
    ),
    "backbone_comparison": ("--model", "mobileone_s0", "mobilenet_v2", "mnasnet_a1", "mobileformer_52"),
    "expand_any": ("--networks", "shufflenetv2", "torchvision:mobilenet_v2(width_mult=0.1)", "--batch-size", "128"),
    "transfer": ("--k", "1"),
    "quantization": ("--branches", "none", "4", "--int8", "float32", "tensor", "weights"),
    "robustness": ("--branches", "none", "4"),
    "overparam_methods": ("--method", "none", "dbb", "--batch-size", "128"),
    "recipe": ("--seeds", "1", "--image-size", "16", "--recipes", "digits", "fashion"),  # a recipe has its own epochs
    "pareto_search": ("--batch-size", "512", "--variants", "tiny", "--widths", "0.5", "1", "--depths", "1"),
}
BRIEF = Protocol(rounds=6, burst=1, warmup=1)  # of the comparison of forms, which no option changes
AS_COMMANDS = ("branch_count", "block_latency")  # one of each kind of cell; the others run in this process


def run(study, *options):
    """Output of `python studies/STUDY.py OPTIONS`."""
    path, study_of = str(ROOT / "studies" / f"{study}.py"), declared(study)
    small = SMALL[type(study_of)]
    if study == "recipe":
        small = ()
    elif getattr(study_of, "data", "") == "scenes":
        small = SCENES
    return (run_command if study in AS_COMMANDS else run_here)([path, *small, *FEWER.get(study, ()), *options])


def run_command(words):
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return done.stdout


def run_here(words):
    """The same in this process, whose imports and fork server all studies share."""
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out):
        patch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(words[0], run_name="__main__")
    assert ended.value.code == 0, out.getvalue()
    return out.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize("study", STUDIES)
def test_a_study_runs_to_its_report(study, tmp_path, monkeypatch):
    for kind in (FormsSpec, DeployedSpec):
        brief = partial(lambda kind, entries, _: kind(entries, BRIEF), kind)
        monkeypatch.setattr(f"mobileone_core.study.grid.{kind.__name__}", brief)
    declaration = declared(study)
    output = run(study, "--runs", str(tmp_path))
    assert declaration.question in output
    page = Path(output.rpartition("report: ")[2].strip())
    plan, record = read_report(page.parent)
    if study in SEARCHED:
        assert [len(cells) for cells in plan.generations] == [2, 2]
    else:
        assert len(plan.cells if study in TRAINED else record.comparison) == len(list(plan.study.settings))
    if study == "branch_count":  # the first cell of each worker
        steps = [row.metrics["time/first_step"] for row in record.rows if "time/first_step" in row.metrics]
        assert len(steps) in (1, 2)
        assert all(0 < seconds < 500 for seconds in steps)
    assert {cell.key for cell in (*plan.teachers, *plan.cells)} == {row.key for row in record.rows}
    assert bool(record.comparison) == bool(plan.comparisons)
    assert {point.metric for point in record.curves} == set(plan.curves)
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
    plan = parse(declared(study), ()).request.plan
    assert plan.study.name == plan.queue.partition("-")[0] == study  # with a hash after it on other data than digits
