"""Plans of command lines."""

import hashlib
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobileone_core.cli.commands.report import report_directory
from mobileone_core.cli.options.study import parse
from mobileone_core.cli.options.workspace import reports_directory, runs_directory
from mobileone_core.data.sets import open_splits
from mobileone_core.data.spec import DataSpec
from mobileone_core.errors import InputError
from mobileone_core.model.spec import ModelSpec
from mobileone_core.reporting.trained.kind import setting_text
from mobileone_core.study.factor import Factor, level_text
from mobileone_core.study.kinds import read_plan
from mobileone_core.study.options import read_levels
from mobileone_core.study.workspace import Workspace
from mobileone_core.training.cell import CellSpec
from mobileone_core.training.execution import Execution
from mobileone_core.training.head import HEADS
from mobileone_core.training.recipe import Teacher, paper_phases
from mobileone_core.training.recipe_presets import RECIPES, recipe_preset


def declared(name):
    return runpy.run_path(str(Path(__file__).parents[2] / "studies" / f"{name}.py"))["STUDY"]


STUDY = declared("branch_count")


def plan(*options, study=STUDY):
    return parse(study, options).request.plan


def test_a_search_trains_classifiers_alone():
    with pytest.raises(InputError, match="task: 'detection' is not allowed; one of classification"):
        plan("--task", "detection", "--data", "scenes", study=declared("pareto_search"))


def test_no_option_is_the_default_study():
    assert plan().default
    assert len(plan().cells) == 35


@pytest.mark.parametrize(
    "options",
    [
        ("--variant", "tiny"),
        ("--data", "digits"),
        ("--k", "1", "2", "3", "4", "5", "8", "16"),
        ("--epochs", "12"),
        ("--image-size", "32"),
    ],
)
def test_default_settings_given_by_hand_are_still_the_default_study(options):
    assert plan(*options) == plan()


@pytest.mark.parametrize(
    "options",
    [
        ("--k", "1", "2"),
        ("--seeds", "6"),
        ("--lr", "0.31"),
        ("--activation", "gelu"),
        ("--variant", "s0"),
        ("--image-size", "24"),
    ],
)
def test_any_other_setting_is_not(options):
    assert not plan(*options).default
    assert plan(*options).id != plan().id


def test_single_fields_reach_the_cells():
    requested = plan("--se", "1", "0", "1", "0", "--activation", "silu", "--weight-decay-end", "None", "--no-nesterov")
    for cell in requested.cells:
        assert (cell.spec.model.se, cell.spec.model.activation) == ((1, 0, 1, 0), "silu")
        assert (cell.spec.recipe.weight_decay_end, cell.spec.recipe.nesterov) == (None, False)


def test_levels_and_seeds_span_the_cells():
    requested = plan("--k", "1", "8", "--seeds", "3")
    assert sorted((cell.factors["k"], cell.seed) for cell in requested.cells) == [
        (k, s) for k in (1, 8) for s in range(3)
    ]
    assert all(cell.spec.model.k == cell.factors["k"] for cell in requested.cells)


def test_how_it_runs_names_no_other_cells():
    """Keys hash what a cell is, never how it ran."""
    usual = [cell.key for cell in plan().cells]
    for options in (("--workers", "7"), ("--threads", "2"), ("--device", "cuda"), ("--compile",), ("--channels-last",)):
        assert [cell.key for cell in plan(*options).cells] == usual


def test_a_paper_variant_on_small_images_keeps_cifars_resolution():
    model = plan("--variant", "s0").base.model
    assert model == replace(ModelSpec.preset("s0", in_channels=1), stem_stride=1, stage_strides=(1, 2, 2, 2))
    assert plan("--variant", "s0", "--stem-stride", "2").base.model.stem_stride == 2


def test_data_brings_its_recipe(tmp_path):
    (tmp_path / "cifar-10-batches-py").mkdir()
    requested = plan("--data", "cifar10", "--data-root", str(tmp_path))
    assert requested.base.recipe == recipe_preset("cifar")
    assert requested.base.data == DataSpec("cifar10", 32, 10, 3)
    assert requested.base.model.in_channels == 3
    named = plan("--data", "cifar10", "--data-root", str(tmp_path), "--recipe", "paper", "--variant", "s2")
    assert named.base.recipe == recipe_preset("paper", "s2", image_size=32)


def image_folder(root, images=27, splits=("train", "val"), classes=("ash", "birch", "cedar", "dogwood")):
    """A folder of files that planning counts and does not read."""
    for path in (root / split / name for split in splits for name in classes):
        path.mkdir(parents=True)
        for number in range(images):
            (path / f"{number}.jpg").write_bytes(b"an image")
    return ("--data", "folder", "--data-root", str(root))


def test_a_folder_of_images_gets_a_recipe_fitted_to_it(tmp_path):
    options = image_folder(tmp_path, images=30)
    requested = plan(*options)
    assert requested.study.recipe == "fitted-108"
    assert requested.base.recipe == recipe_preset("fitted-108", image_size=64)
    assert requested == plan(*options, "--recipe", "fitted")
    assert requested.base.data.image_size == 64
    assert requested.training_lines == [
        "tiny on folder at 64 px; recipe fitted-108: 54 epochs, batch 8, sgd lr 0.3",
        "108 training images: 13 steps per epoch, 702 steps per cell",
    ]
    again = read_plan(requested.to_json())
    assert (again, setting_text(again)) == (
        requested,
        f"tiny on folder {requested.base.data.fingerprint[:6]}, recipe fitted-108, 64 px, 5 seeds per level",
    )
    assert plan(*options, "--variant", "s0").base.data.image_size == 224
    assert plan(*options, "--recipe", "paper").base.recipe == recipe_preset("paper")
    assert plan(*options, "--recipe", "paper").base.data.image_size == 224


def test_the_images_that_validation_leaves_are_counted(tmp_path):
    carved = plan(*image_folder(tmp_path / "two", images=7)).base.data
    whole = plan(*image_folder(tmp_path / "three", images=7, splits=("train", "val", "test"))).base.data
    assert (carved.train_images, whole.train_images) == (24, 28)
    assert CellSpec(data=carved).key == CellSpec(data=replace(carved, class_images=())).key
    with pytest.raises(InputError, match=r"val_fraction: 0.2 .* nothing is carved"):
        CellSpec(data=whole).changed({"data.val_fraction": 0.2})


def test_too_few_steps_are_named_at_planning(tmp_path):
    lines = plan(*image_folder(tmp_path), "--recipe", "paper").training_lines
    assert lines[1:] == [
        "96 training images: 1 steps per epoch, 300 steps per cell",
        "warning: batch_size 256 is larger than the 96 training images",
        "warning: ema_decay 0.9995 averages over 2,000 steps, more than a third (of 300 in all)",
    ]
    assert len(plan().training_lines) == 2


def test_a_study_of_other_data_is_the_default_where_its_data_are(tmp_path):
    study = replace(STUDY, data="folder")
    options = image_folder(tmp_path)[2:]
    assert plan(*options, study=study).default
    assert plan(*options, study=study).study.recipe == "fitted-96"
    assert not plan(*options, "--lr", "0.1", study=study).default
    assert not plan("--data", "digits", study=study).default


SIZES = replace(STUDY, factors=(Factor("resolution", "data.image_size", levels=(24, 48), baseline=24),), variant="s0")


def test_a_factor_may_be_a_field_of_the_data():
    requested = plan("--phases", "paper", "--seeds", "1", study=SIZES)
    small, large = (cell.spec for cell in requested.cells)
    assert (small.data.image_size, large.data.image_size) == (24, 48)
    assert (small.model.reduction, large.model.reduction) == (8, 32)
    assert (small.recipe.phases, large.recipe.phases) == (paper_phases(24), paper_phases(48))
    assert requested.training_lines[0].startswith("s0 on digits at 24 to 48 px; recipe digits: 12 epochs")
    sizes = [cell.spec.data.image_size for cell in plan("--resolution", "24", "40", study=SIZES).cells[:2]]
    assert sizes == [24, 40]
    strides = {cell.spec.model.stem_stride for cell in plan("--stem-stride", "2", study=SIZES).cells}
    assert strides == {2}
    again = read_plan(requested.to_json())
    assert [cell.key for cell in again.cells] == [cell.key for cell in requested.cells]
    with pytest.raises(InputError, match=r"image_size.*resolution"):
        plan("--image-size", "20", study=SIZES)


def test_levels_of_resolution_share_their_split():
    small, large = (open_splits(cell.spec.data, None, cell.seed) for cell in plan("--seeds", "1", study=SIZES).cells)
    assert (small.train.images.shape[-1], large.train.images.shape[-1]) == (24, 48)
    assert small.train.labels.equal(large.train.labels)
    assert small.val.labels.equal(large.val.labels)


@pytest.mark.parametrize(
    ("field", "levels"), [("data.val_fraction", (0.1, 0.3)), ("recipe.augmentation", ("none", "crop"))]
)
def test_the_split_and_the_augmentation_may_be_factors(field, levels):
    study = replace(STUDY, factors=(Factor("factor", field, levels, levels[0]),))
    part, _, name = field.partition(".")
    requested = plan("--seeds", "1", study=study)
    assert [getattr(getattr(cell.spec, part), name) for cell in requested.cells] == list(levels)
    assert len(requested.training_lines) == 2


def test_without_branches_k_is_1():
    requested = plan("--no-reparam", "--k", "1")
    assert {(cell.spec.model.reparam, cell.spec.model.k) for cell in requested.cells} == {(False, 1)}


@pytest.mark.slow
def test_levels_of_several_fields_are_chosen_by_name():
    requested = plan("--branches", "none", "4", "--seeds", "1", study=declared("reparam_effect"))
    assert [(cell.spec.model.reparam, cell.spec.model.k) for cell in requested.cells] == [(False, 1), (True, 4)]


def test_on_is_what_the_recipe_has_and_its_fields_stay_options():
    strategy = declared("training_strategy")
    requested = plan("--ema", "off", "on", "--ema-decay", "0.9", "--annealing", "off", "--seeds", "1", study=strategy)
    assert [(bool(c.spec.recipe.phases), c.spec.recipe.ema_decay) for c in requested.cells] == [
        (False, 0.0),
        (False, 0.9),
        (True, 0.0),
        (True, 0.9),
    ]
    assert requested.queue != plan(study=strategy).queue


@pytest.mark.parametrize("recipe", [name for name in RECIPES if name not in HEADS])
def test_every_recipe_has_something_to_switch(recipe):
    """Weight decay is annealed where annealing is on, also by a recipe that keeps it constant."""
    requested = plan("--recipe", recipe, "--seeds", "1", study=declared("training_strategy"))
    ends = {(cell.factors["annealing"], cell.spec.recipe.weight_decay_end) for cell in requested.cells}
    assert ends == {("off", None), ("on", 1e-5)}
    assert len({cell.key for cell in requested.cells}) == 8


def test_progressive_learning_follows_the_datas_resolution():
    on = plan("--progressive", "off", "on", study=declared("training_strategy")).cells[-1].spec.recipe.phases
    assert [(phase.until, phase.image_size) for phase in on] == [(0.13, 24), (0.38, 28), (1.0, 32)]
    assert plan("--phases", "paper").base.recipe.phases == on
    assert plan("--phases", "paper").changes == {"recipe.phases": on}


def test_a_switch_with_nothing_to_switch_is_refused():
    with pytest.raises(InputError, match="come to the same cells"):
        plan("--phases", "none", study=declared("training_strategy"))


def test_multiples_are_of_the_variants_own():
    requested = plan("--variant", "s0", "--width", "1", "0.5", "--depth", "1", study=declared("width_and_depth"))
    assert [cell.spec.model.widths for cell in requested.cells[:2]] == [(48, 128, 256, 1024), (24, 64, 128, 512)]


def test_placements_of_se_are_levels_too():
    requested = plan("--se", "none", "0,0,1,1", "--seeds", "1", study=declared("se_usage"))
    assert [cell.spec.model.se for cell in requested.cells] == ["none", (0, 0, 1, 1)]


def test_teachers_are_variants_or_files_known_by_content(tmp_path):
    study = declared("distillation")
    assert {item.network for cell in plan(study=study).cells for item in cell.spec.recipe.teachers} == {"small"}
    assert plan("--variant", "s0", study=study).teachers[0].spec.model == plan("--variant", "s1").base.model
    file = tmp_path / "weights.pth"
    file.write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()[:16]
    command = parse(study, ["--teachers", f"timm:resnet18={file}", "s1"])
    named = Teacher("timm:resnet18", digest)
    assert command.request.plan.base.recipe.teachers == (named, Teacher("s1"))
    assert command.request.weights == {digest: file}
    assert len(command.request.plan.teachers) == study.seeds


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--teachers", "s1=/nowhere/at/all"), "/nowhere/at/all"),
        (("--teachers", "s7"), "teachers.*s7"),
        (("--teachers", "timm:resnet18"), "teachers.*resnet18"),
        (("--temperature", "0"), "temperature"),
        (("--hard-label-weight", "2"), "hard_label_weight"),
    ],
)
def test_teachers_that_cannot_be(options, words):
    with pytest.raises(InputError, match=words):
        plan(*options, study=declared("distillation"))


@given(st.lists(st.integers(0, 99), min_size=2).map(tuple))
def test_levels_of_several_integers_are_printed_as_they_are_typed(level):
    assert read_levels([level_text(level)]) == (level,)


def test_another_resolution_has_its_own_network_phases_and_queue():
    requested = plan("--image-size", "24")
    assert requested.base == replace(plan().base, data=DataSpec(image_size=24))
    assert requested.changes == {"data.image_size": 24}
    assert requested.queue != plan().queue
    assert not {cell.key for cell in requested.cells} & {cell.key for cell in plan().cells}
    assert setting_text(requested) == "tiny on digits, recipe digits, 24 px, 5 seeds per level"
    assert plan("--image-size", "24", "--phases", "paper").base.recipe.phases == paper_phases(24)
    assert plan("--image-size", "160", study=declared("training_strategy")).base.recipe.phases == paper_phases(160)
    strides = [plan("--variant", "s0", "--image-size", size).base.model.stem_stride for size in ("32", "33")]
    assert strides == [1, 2]


def test_a_resolution_is_a_pixel_or_more():
    with pytest.raises(InputError, match="image_size: 0 is not allowed"):
        plan("--image-size", "0")


def test_execution_and_places(tmp_path):
    command = parse(STUDY, ["--threads", "3", "--device", "cuda:1", "--runs", str(tmp_path)])
    assert command.execution == Execution("cuda:1", 3)
    assert command.running.workspace == Workspace.at(tmp_path)
    assert parse(STUDY, ["--workers", "5"]).workers == 5
    shared = parse(STUDY, ["--processes", "2", "--blocks", "folded", "--sync-batchnorm", "--device", "cpu"]).execution
    assert shared == Execution("cpu", processes=2, blocks="folded", sync_batchnorm=True)


def test_workers_follow_the_cores(monkeypatch):
    monkeypatch.setattr("mobileone_core.cli.options.study._cores", lambda: 8)
    assert parse(STUDY, ["--threads", "3"]).workers == 2
    assert parse(STUDY, ["--threads", "9"]).workers == 1
    assert parse(STUDY, ["--threads", "2", "--processes", "2"]).workers == 2
    assert parse(STUDY, ["--processes", "9"]).workers == 1


def test_workers_follow_the_gpus(monkeypatch):
    monkeypatch.setattr("mobileone_core.cli.options.study.gpu_names", lambda _: ["NVIDIA H100"] * 5)
    assert parse(STUDY, []).workers == 5
    requested = parse(STUDY, ["--processes", "2"])
    assert (requested.workers, requested.execution) == (2, Execution(processes=2))


def test_only_the_default_study_in_its_own_runs_reports_into_reports(tmp_path):
    usual, other = plan(), plan("--seeds", "2")
    own, elsewhere = Workspace.at(runs_directory()), Workspace.at(tmp_path)
    assert report_directory(usual, own, None, True) == reports_directory()
    assert report_directory(usual, own, None, False) == runs_directory() / "reports"
    assert report_directory(other, own, None, True) == runs_directory() / "reports"
    assert report_directory(usual, elsewhere, None, True) == tmp_path / "reports"
    assert report_directory(other, own, tmp_path / "mine", False) == tmp_path / "mine"


@pytest.mark.parametrize("option", ["--plan", "--help"])
def test_parsing_imports_nothing_heavy(option):
    """Other tests of this process did, so a fresh one is asked. --plan computes with scipy.special alone."""
    study = Path(__file__).parents[2] / "studies" / "branch_count.py"
    code = (
        f"import sys; sys.argv = ['x', {option!r}, '--runs', '/nowhere/at/all']; import runpy\n"
        f"try: runpy.run_path({str(study)!r}, run_name='__main__')\n"
        "except SystemExit as ended: assert ended.code == 0\n"
        "heavy = {'torch', 'torchvision', 'pytorch_lightning', 'optuna', 'mlflow', 'pandas', 'seaborn', 'matplotlib'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_unknown_fields_of_a_preset_are_named():
    with pytest.raises(InputError, match="activations"):
        ModelSpec.preset("s0", activations="gelu")
