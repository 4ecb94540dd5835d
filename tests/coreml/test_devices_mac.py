"""Measuring on a Mac, with a fake sw_vers and stubs in place of Core ML's own classes, which Linux lacks."""

import stat
from types import SimpleNamespace

import coremltools
import numpy as np
import pytest
import torch
from coremltools.models import compute_plan as plans
from coremltools.models.ml_program.experimental import perf_utils

from mobileone_core.benchmark.protocol import Protocol
from mobileone_core.coreml import program
from mobileone_core.coreml.evaluate import evaluate
from mobileone_core.coreml.export import export_package
from mobileone_core.coreml.mac import (
    compute_plan,
    difference_from_evaluator,
    measure_on_mac,
    predict,
    relative_difference,
)
from mobileone_core.coreml.options import Options
from mobileone_core.coreml.package import package_hash
from mobileone_core.coreml.program import read_program
from mobileone_core.errors import InputError
from mobileone_core.model.network import build_model, calibrate
from mobileone_core.model.reparam import reparameterize
from mobileone_core.model.spec import ModelSpec


class MLGPUComputeDevice:
    """Named as coremltools'."""


class StubModel:
    """A model that doubles its input and notes every call."""

    calls: list = []  # noqa: RUF012

    def __init__(self, path, compute_units):  # noqa: ARG002
        self.compute_unit = compute_units

    def predict(self, inputs):
        StubModel.calls.append(self.compute_unit.name)
        return {"y": 2 * inputs["x"]}

    def get_spec(self):
        return SimpleNamespace(description=None)

    def get_compiled_model_path(self):
        return "compiled"


def stub_plan(path, unit):
    operations = [
        SimpleNamespace(operator_name=name, outputs=[SimpleNamespace(name="y")]) for name in ("const", "conv")
    ]
    function = SimpleNamespace(block=SimpleNamespace(operations=operations))
    return SimpleNamespace(
        model_structure=SimpleNamespace(program=SimpleNamespace(functions={"main": function})),
        get_compute_device_usage_for_mlprogram_operation=lambda _: SimpleNamespace(
            preferred_compute_device=MLGPUComputeDevice()
        ),
    )


@pytest.fixture
def package(tmp_path):
    path = tmp_path / "fake.mlpackage"
    for name in ("model.mlmodel", "weights/weight.bin"):
        file = path / "Data" / "com.apple.CoreML" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(name.encode())
    return path


@pytest.fixture
def mac(tmp_path, monkeypatch):
    """sw_vers tells $MACOS; the folder is the whole PATH."""
    tool = tmp_path / "tools" / "sw_vers"
    tool.parent.mkdir()
    tool.write_text("#!/bin/bash\necho ${MACOS-14.4}\n")
    tool.chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", str(tool.parent))
    monkeypatch.setattr(coremltools.models, "MLModel", StubModel)
    monkeypatch.setattr(plans.MLComputePlan, "load_from_path", stub_plan)
    monkeypatch.setattr(perf_utils, "_gen_random_inputs", lambda _: {"x": np.ones(1)})
    monkeypatch.setattr(StubModel, "calls", [])


def test_all_units_are_timed_side_by_side_with_a_control(mac, package):
    protocol, rounds = Protocol(rounds=6, burst=2, warmup=0, untimed=0), []
    found = measure_on_mac([package], ["all", "cpu_only"], protocol, "Testmac", rounds.append)
    assert rounds == list(range(1, 7))
    assert [item.measurement.compute_units for item in found] == ["all", "cpu_only"]
    assert sorted(set(StubModel.calls)) == ["ALL", "CPU_ONLY"]
    assert StubModel.calls.count("ALL") == 2 * StubModel.calls.count("CPU_ONLY")  # the control
    assert "CPU_ONLY" in StubModel.calls[:6]  # within the first round
    first = found[0]
    assert (first.measurement.n, first.measurement.protocol, first.measurement.os) == (
        12,
        "mac-interleaved",
        "macOS 14.4",
    )
    assert first.measurement.model_hash == package_hash(package)
    assert first.measurement.statistics["min"] == min(first.measurement.samples)
    assert first.measurement.placement == {"GPU": 1}
    assert first.control > 0


def test_prediction_is_compared_in_relation_to_the_largest_value(mac, package):
    given = np.array([1.0, -4.0])
    found = predict(package, {"x": given})["y"]
    assert relative_difference(found, 2 * given) == 0
    assert relative_difference(found, 2 * given + np.array([0.0, 0.8])) == pytest.approx(0.8 / 7.2)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A small network, exported."""
    torch.manual_seed(0)
    network = build_model(ModelSpec(widths=(8, 8), depths=(1, 1), stage_strides=(2, 2)), 5)
    calibrate(network, [torch.randn(4, 3, 32, 32)])
    path = tmp_path_factory.mktemp("exported") / "small.mlpackage"
    export_package(reparameterize(network), path, Options(32, "float32"), {})
    return path


@pytest.mark.parametrize("factor", [1.0, 1.25])
def test_core_ml_is_held_against_the_evaluator(mac, exported, monkeypatch, factor):
    """The stub gives what the evaluator gives, or a quarter more."""

    def predicted(self, inputs):
        given = {name: torch.from_numpy(value) for name, value in inputs.items()}
        return {name: factor * value.numpy() for name, value in evaluate(read_program(exported), given).items()}

    monkeypatch.setattr(StubModel, "predict", predicted)
    assert difference_from_evaluator(exported) == pytest.approx(factor - 1, abs=1e-6)


def test_a_package_that_takes_images_is_not_compared(mac, exported, monkeypatch):
    image = SimpleNamespace(type=SimpleNamespace(WhichOneof=lambda _: "imageType"))
    monkeypatch.setattr(program, "read_spec", lambda _: SimpleNamespace(description=SimpleNamespace(input=[image])))
    assert difference_from_evaluator(exported) is None


def test_no_compute_plan_before_macos_14_4(mac, package, monkeypatch):
    assert [item.operator for item in compute_plan(package)] == ["conv"]
    monkeypatch.setenv("MACOS", "14.3.1")
    assert compute_plan(package) == ()


def test_elsewhere_it_says_so(package, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    for call in (lambda: predict(package, {}), lambda: compute_plan(package)):
        with pytest.raises(InputError, match=r"needs macOS.*latency import"):
            call()
