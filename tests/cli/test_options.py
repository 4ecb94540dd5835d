"""What a command line resolves to."""

import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mobileone_core.cli.home import reports_home, runs_home
from mobileone_core.cli.options import parse
from mobileone_core.cli.report import report_directory
from mobileone_core.cli.run import asked_plan, default_plan
from mobileone_core.data.spec import DataSpec
from mobileone_core.errors import InputError
from mobileone_core.model.spec import ModelSpec
from mobileone_core.study.workspace import Workspace
from mobileone_core.training.execution import Execution
from mobileone_core.training.recipe import recipe_preset

STUDY = runpy.run_path(str(Path(__file__).parents[2] / "studies" / "branch_count.py"))["STUDY"]


def plan(*options):
    return asked_plan(STUDY, parse(STUDY, options))


def test_no_option_is_the_default_study():
    assert plan() == default_plan(STUDY)
    assert plan().default
    assert len(plan().cells) == 25


@pytest.mark.parametrize(
    "options", [("--variant", "tiny"), ("--data", "digits"), ("--k", "1", "2", "3", "4", "5"), ("--epochs", "12")]
)
def test_default_settings_given_by_hand_are_still_the_default_study(options):
    assert plan(*options) == default_plan(STUDY)


@pytest.mark.parametrize(
    "options", [("--k", "1", "2"), ("--seeds", "6"), ("--lr", "0.31"), ("--activation", "gelu"), ("--variant", "s0")]
)
def test_any_other_setting_is_not(options):
    assert not plan(*options).default
    assert plan(*options).id != default_plan(STUDY).id


def test_single_fields_reach_the_cells():
    asked = plan("--se", "1", "0", "1", "0", "--activation", "silu", "--weight-decay-end", "None", "--no-nesterov")
    for cell in asked.cells:
        assert (cell.spec.model.se, cell.spec.model.activation) == ((1, 0, 1, 0), "silu")
        assert (cell.spec.recipe.weight_decay_end, cell.spec.recipe.nesterov) == (None, False)


def test_levels_and_seeds_span_the_cells():
    asked = plan("--k", "1", "8", "--seeds", "3")
    assert sorted((cell.factors["k"], cell.seed) for cell in asked.cells) == [(k, s) for k in (1, 8) for s in range(3)]
    assert all(cell.spec.model.k == cell.factors["k"] for cell in asked.cells)


def test_how_it_runs_names_no_other_cells():
    """Keys hash what a cell is, never how it ran."""
    usual = [cell.key for cell in plan().cells]
    for options in (("--workers", "7"), ("--threads", "2"), ("--device", "cuda"), ("--compile",), ("--channels-last",)):
        assert [cell.key for cell in plan(*options).cells] == usual


def test_a_paper_variant_on_small_images_keeps_cifars_resolution():
    model = plan("--variant", "s0").base.model
    assert model == replace(ModelSpec.preset("s0", k=1, in_channels=1), stem_stride=1, stage_strides=(1, 2, 2, 2))
    assert plan("--variant", "s0", "--stem-stride", "2").base.model.stem_stride == 2


def test_data_brings_its_recipe(tmp_path):
    (tmp_path / "cifar-10-batches-py").mkdir()
    asked = plan("--data", "cifar10", "--data-root", str(tmp_path))
    assert asked.base.recipe == recipe_preset("cifar")
    assert asked.base.data == DataSpec("cifar10", 32, 10, 3)
    assert asked.base.model.in_channels == 3
    named = plan("--data", "cifar10", "--data-root", str(tmp_path), "--recipe", "paper", "--variant", "s2")
    assert named.base.recipe == recipe_preset("paper", "s2")


def test_without_branches_k_is_1():
    asked = plan("--no-reparam", "--k", "1")
    assert {(cell.spec.model.reparam, cell.spec.model.k) for cell in asked.cells} == {(False, 1)}


def test_help_needs_no_data(capsys):
    with pytest.raises(SystemExit) as ended:
        parse(STUDY, ["--data", "folder", "--help"])
    assert ended.value.code == 0


def test_help_shows_the_values_of_the_presets_named(capsys):
    with pytest.raises(SystemExit) as ended:
        parse(STUDY, ["--recipe", "paper", "--help"])
    assert ended.value.code == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "--epochs INT (default: 300)" in told
    assert STUDY.question in told


def test_execution_and_places(tmp_path):
    running = parse(STUDY, ["--threads", "3", "--device", "cuda:1", "--runs", str(tmp_path)]).running
    assert running.execution == Execution("cuda:1", 3)
    assert running.workspace == Workspace.at(tmp_path)
    assert parse(STUDY, ["--workers", "5"]).running.worker_count == 5


def test_workers_follow_the_cores(monkeypatch):
    monkeypatch.setattr("mobileone_core.cli.options._cores", lambda: 8)
    assert parse(STUDY, ["--threads", "3"]).running.worker_count == 2
    assert parse(STUDY, ["--threads", "9"]).running.worker_count == 1


def test_only_the_default_study_in_its_own_runs_reports_into_reports(tmp_path):
    usual, other = default_plan(STUDY), plan("--seeds", "2")
    own, elsewhere = Workspace.at(runs_home()), Workspace.at(tmp_path)
    assert report_directory(usual, own, None, True) == reports_home()
    assert report_directory(usual, own, None, False) == runs_home() / "reports"
    assert report_directory(other, own, None, True) == runs_home() / "reports"
    assert report_directory(usual, elsewhere, None, True) == tmp_path / "reports"
    assert report_directory(other, own, tmp_path / "mine", False) == tmp_path / "mine"


def test_parsing_imports_nothing_heavy():
    """Other tests of this process did, so a fresh one is asked."""
    study = Path(__file__).parents[2] / "studies" / "branch_count.py"
    code = (
        "import sys; sys.argv = ['x', '--plan', '--runs', '/nowhere/at/all']; import runpy\n"
        f"try: runpy.run_path({str(study)!r}, run_name='__main__')\n"
        "except SystemExit as ended: assert ended.code == 0\n"
        "heavy = {'torch', 'torchvision', 'pytorch_lightning', 'optuna', 'mlflow', 'pandas', 'seaborn', 'scipy'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_unknown_fields_of_a_preset_are_named():
    with pytest.raises(InputError, match="activations"):
        ModelSpec.preset("s0", activations="gelu")
