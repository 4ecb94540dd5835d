"""The command line of a measured study: its plan, and what it refuses."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from mobileone_core.benchmark.protocol import PROTOCOLS
from mobileone_core.cli.options.study import parse
from mobileone_core.errors import InputError
from mobileone_core.study.measured import MeasuredStudy

STUDIES = Path(__file__).parents[2] / "studies"


def declared(name):
    return runpy.run_path(str(STUDIES / f"{name}.py"))["STUDY"]


ACTIVATION = declared("activation_latency")
SMALL = "s0, 64 px, batch 32"
NAMES = [path.stem for path in sorted(STUDIES.glob("*.py")) if isinstance(declared(path.stem), MeasuredStudy)]


def plan(*options, study=ACTIVATION):
    return parse(study, options).request.plan


@pytest.mark.parametrize("name", NAMES)
def test_no_option_is_the_default_study(name):
    assert plan(study=declared(name)).default


@pytest.mark.parametrize(
    "options",
    [
        ("--rounds", "20"),
        ("--protocol", "interleaved"),
        ("--threads", "1"),
        ("--runtime", "onnxruntime", "torch"),
        ("--image-size", "224"),
    ],
)
def test_default_settings_given_by_hand_are_still_the_default_study(options):
    assert plan(*options) == plan()


@pytest.mark.parametrize(
    ("options", "read"),
    [
        (("--protocol", "modelbench"), lambda plan: plan.spec.protocol == PROTOCOLS["modelbench"]),
        (
            ("--protocol", "modelbench", "--rounds", "7"),
            lambda plan: (plan.spec.protocol.rounds, plan.spec.protocol.trim) == (7, 10),
        ),
        (("--rounds", "7"), lambda plan: plan.spec.protocol.rounds == 7),
        (("--threads", "2"), lambda plan: {entry.cell.runtime.threads for entry in plan.spec.entries} == {2}),
        (("--width", "8"), lambda plan: {entry.cell.network.width for entry in plan.spec.entries} == {8}),
        (("--image-size", "64"), lambda plan: {entry.cell.image_size for entry in plan.spec.entries} == {64}),
        (
            ("--precision", "bfloat16"),
            lambda plan: {entry.cell.runtime.precision for entry in plan.spec.entries} == {"bfloat16"},
        ),
        (
            ("--runtime", "openvino"),
            lambda plan: {item.cell.runtime.name for item in plan.spec.entries} == {"openvino"},
        ),
        (("--activation", "relu", "gelu"), lambda plan: len(plan.spec.entries) == 4),
    ],
)
def test_an_option_sets_its_field(options, read):
    requested = plan(*options)
    assert read(requested)
    assert not requested.default
    assert requested.queue != ACTIVATION.name


def test_re_parameterization_has_levels_by_name():
    requested = plan("--model", "mobileone_s0", "--form", "deployed", "train-k8", study=declared("reparam_latency"))
    assert [(entry.cell.network.form, entry.cell.network.k) for entry in requested.spec.entries] == [
        ("deployed", 0),
        ("deployed", 0),
        ("train", 8),
        ("train", 8),
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "read"),
    [
        (("--k", "1", "4", "--path", "branches", "auto"), lambda cells: len(cells) == 4),
        (("--variant", "s1"), lambda cells: {cell.variant for cell in cells} == {"s1"}),
        (("--batch-size", "32", "--image-size", "64"), lambda cells: {cell.size_text for cell in cells} == {SMALL}),
        (("--threads", "1"), lambda cells: {cell.threads for cell in cells} == {1}),
        (("--device", "cuda", "--compile"), lambda cells: {(c.device, c.compile) for c in cells} == {("cuda", True)}),
    ],
)
def test_an_option_sets_its_field_of_every_step(options, read):
    requested = plan(*options, study=declared("training_cost"))
    assert read([entry.cell for entry in requested.spec.entries])
    assert not requested.default


def test_networks_are_chosen_by_name_group_or_library():
    study = declared("backbone_comparison")
    requested = plan("--networks", "peers", "timm:resnet10t", "--batch-size", "4", "--image-size", "64", study=study)
    names = [entry.cell.network.model for entry in requested.spec.entries]
    assert (names[0], names[-1]) == ("mobileone_s0", "timm:resnet10t")
    assert len(names) == len(set(names)) > 20
    assert {entry.cell.size_text for entry in requested.spec.entries} == {"64 px, batch 4"}
    assert plan("--networks", "table9", study=study).default
    assert plan("--model", "mobilenet_v2", study=study) == plan("--networks", "mobilenet_v2", study=study)
    with pytest.raises(InputError, match="model: 'nope' is not allowed; one of"):
        plan("--networks", "nope", study=study)
    with pytest.raises(InputError, match="networks: 'timm:nope' is not allowed; a network that timm lists"):
        plan("--networks", "timm:nope", study=study).require_runnable()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--variant", "s9"), "variant: 's9' is not allowed; one of s0"),
        (("--k", "1", "17"), "k: 17 is not allowed; an integer from 1 to 16"),
        (("--k", "4"), "the baseline level 1 must be among the levels"),
        (("--protocol", "modelbench"), "reload: True is not allowed; a training step is not opened anew"),
    ],
)
def test_a_step_that_cannot_be_is_named(options, words):
    with pytest.raises(InputError, match=words):
        plan(*options, study=declared("training_cost"))


@pytest.mark.parametrize(
    ("options", "words"),
    [(("--rounds", "3"), "rounds"), (("--threads", "0"), "threads"), (("--width", "0"), "width")],
)
def test_a_value_that_cannot_be_is_named(options, words):
    with pytest.raises(InputError, match=words):
        plan(*options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--rounds", "3"), "error: rounds: 3 is not allowed; an integer of 6 or more"),
        (("--activation", "tanh"), "tanh"),
        (
            ("--activation", "gelu"),
            "error: activation: ['gelu'] is not allowed; the baseline level 'relu' must be among",
        ),
        (("--seeds", "3"), "--seeds"),
    ],
)
def test_bad_input_is_one_message_and_leaves_no_trace(options, words, tmp_path):
    command = [sys.executable, str(STUDIES / "activation_latency.py"), "--runs", str(tmp_path / "runs"), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert words in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_plan_is_printed_and_nothing_is_written(tmp_path):
    command = [sys.executable, str(STUDIES / "block_latency.py"), "--plan", "--runs", str(tmp_path / "runs")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "8 networks side by side; 1 missing" in done.stdout
    assert not (tmp_path / "runs").exists()
