"""Latency of whole deployed networks, a backbone with its head."""

from dataclasses import replace

import onnx
import pytest
import torch

from mobileone_core.benchmark.measure import measure
from mobileone_core.benchmark.protocol import Protocol
from mobileone_core.benchmark.spec import DeployedSpec, Entry, read_spec
from mobileone_core.benchmark.subjects import forms
from mobileone_core.data.spec import DataSpec
from mobileone_core.latency.runtimes.onnx_file import onnxruntime_session
from mobileone_core.model.spec import ModelSpec
from mobileone_core.onnx.scheme import Quantization
from mobileone_core.training.cell import CellSpec
from mobileone_core.training.execution import Execution
from mobileone_core.training.head import HeadSpec
from mobileone_core.training.recipe import Recipe

pytestmark = pytest.mark.usefixtures("onnx_registry")
MODEL = ModelSpec(in_channels=1, widths=(8, 12, 16), depths=(1, 1, 1), k=2, stage_strides=(2, 2, 1))
HEADS = {
    "detection": HeadSpec(stride=4, extras=(16,), scales=(0.2, 0.6, 0.8)),
    "segmentation": HeadSpec(width=8, rates=(1, 2), aux_weight=0.4),
}


@pytest.mark.slow
@pytest.mark.parametrize("task", HEADS)
def test_whole_networks_are_timed_as_they_are_exported(task):
    recipe = Recipe(1, 4, label_smoothing=0.0, augmentation="none")
    cell = CellSpec(MODEL, DataSpec("scenes", 32, 10, 1), recipe, task=task, head=HEADS[task])
    wide = replace(cell, model=MODEL.scaled(width=4.0))
    entries = tuple(Entry(name, {"backbone": name}, item, "one") for name, item in (("one", cell), ("wide", wide)))
    spec = DeployedSpec(entries, Protocol(rounds=6, burst=2, warmup=1))
    assert read_spec(spec.to_json()) == spec
    one, four = measure(spec, execution=Execution("cpu"), progress=lambda _: None)
    assert (one.form, one.tags["runtime"], one.tags["threads"]) == ("deployed", "onnxruntime", "1")
    assert four.metrics["params"] > one.metrics["params"] > 1000
    assert four.metrics["macs"] > 4 * one.metrics["macs"] > 1000
    assert four.metrics["time/inference_ratio"] > 0
    assert one.metrics["control/inference_ratio"] > 0  # a busy machine says nothing of 1
    assert one.metrics["time/inference_low_ms"] <= one.metrics["time/inference_ms"]
    assert set(one.samples) == {"inference", "inference_control"}


@pytest.mark.slow
def test_a_quantized_cell_is_timed_as_an_int8_file(monkeypatch):
    cell = CellSpec(MODEL, DataSpec("digits", 16, 10, 1), Recipe(1, 8))
    int8 = replace(cell, quantization=Quantization("full"))
    entries = tuple(Entry(name, {"int8": name}, item, "float32") for name, item in (("float32", cell), ("int8", int8)))
    opened = []

    def session(source, path):
        opened.append({node.op_type for node in onnx.load(path).graph.node})
        return onnxruntime_session(source, path)

    exported, export = [], torch.onnx.export
    monkeypatch.setattr(forms, "onnxruntime_session", session)
    monkeypatch.setattr(torch.onnx, "export", lambda *args, **named: exported.append(args[2]) or export(*args, **named))
    spec = DeployedSpec(entries, Protocol(rounds=6, burst=2, warmup=1))
    plain, quantized = measure(spec, execution=Execution("cpu"), progress=lambda _: None)
    assert (len(opened), len(exported)) == (1, 2)
    assert {"QuantizeLinear", "DequantizeLinear"} <= opened[0]
    assert quantized.metrics["time/inference_ms"] > 0
    assert quantized.metrics["macs"] == plain.metrics["macs"]
    assert "control/inference_ratio" in plain.metrics
