"""A cell with quantization: keys, what it needs, and metrics of the int8 file."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from mobileone_core.data.spec import DataSpec
from mobileone_core.errors import InputError
from mobileone_core.model.network import build_model, calibrate
from mobileone_core.model.spec import ModelSpec
from mobileone_core.training.cell import CellSpec
from mobileone_core.training.execution import Execution
from mobileone_core.training.observer import NullObserver
from mobileone_core.training.recipe import Teacher
from mobileone_core.training.run import train_cell

SPEC = CellSpec(ModelSpec.preset("tiny", in_channels=1, stem_stride=1), DataSpec(image_size=16))
INT8 = SPEC.changed({"quantization.scheme": "full", "quantization.images": 32})


def test_a_quantized_cell_has_a_key_of_its_own_and_names_the_network_it_quantizes():
    assert SPEC.key == replace(SPEC, quantization=SPEC.quantization).key
    assert len({SPEC.key, INT8.key, INT8.changed({"quantization.images": 33}).key}) == 3
    assert INT8.float32 == SPEC
    assert CellSpec.from_json(INT8.to_json()) == INT8


def test_students_are_not_quantized():
    with pytest.raises(InputError, match="only MobileOne classifiers without teachers"):
        INT8.changed({"recipe.teachers": (Teacher("small"),)})


@pytest.mark.slow
def test_the_int8_file_is_tested_in_onnx_runtime_and_by_the_reference(tmp_path):
    torch.manual_seed(0)
    network = build_model(SPEC.model, 10)
    calibrate(network, [torch.randn(64, 1, 16, 16)])
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    result = train_cell(
        INT8,
        execution=Execution("cpu"),
        data_root=None,
        directory=tmp_path / "cell",
        observer=NullObserver(),
        trained=tmp_path / "weights.safetensors",
    )
    metrics = result.metrics
    assert metrics["test/top1"] == pytest.approx(metrics["simulated/top1"], abs=0.01)
    assert metrics["test/images"] == 451
    assert metrics["int8/bytes"] == result.weights.stat().st_size < metrics["float32/bytes"]
    assert metrics["range/00_weight"] >= metrics["range/00_channel"] > 0
    assert metrics["range/11_input"] > 0
    assert [path.name for path in (tmp_path / "cell").iterdir()] == ["int8.onnx"]
