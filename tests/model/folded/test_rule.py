"""The rule of "auto": the measured table's sides, and no folding where nothing was measured."""

import json
import subprocess
import sys

import pytest
import torch
from torch._subclasses import FakeTensorMode

from mobileone_core.errors import InputError
from mobileone_core.model.blocks import MobileOneBlock
from mobileone_core.model.folded import gpu_timings
from mobileone_core.model.folded.gpu_timings import write_timings
from mobileone_core.model.folded.rule import folding_is_faster
from mobileone_core.model.spec import BlockSpec


def dense(k):
    return BlockSpec(3, 48, 3, 2, 1, k, True, False)


def depthwise(k):
    return BlockSpec(8, 8, 3, 1, 8, k, True, False)


def pointwise(channels, k):
    return BlockSpec(channels, channels, 1, 1, 1, k, True, False)


@pytest.mark.parametrize(
    ("spec", "shape", "expected"),
    [
        (dense(1), (8, 3, 224, 224), True),
        (dense(4), (32, 3, 64, 64), True),
        (dense(4), (64, 3, 16, 16), False),
        (BlockSpec(1, 16, 3, 1, 1, 1, True, False), (64, 1, 16, 16), False),
        (BlockSpec(3, 16, 3, 2, 1, 1, True, False), (8, 3, 224, 224), False),
        (BlockSpec(3, 16, 3, 2, 1, 4, True, False), (8, 3, 224, 224), True),
        (BlockSpec(3, 64, 7, 2, 1, 4, True, False), (8, 3, 224, 224), True),
        (BlockSpec(3, 64, 7, 2, 1, 1, True, False), (8, 3, 224, 224), False),
        (BlockSpec(16, 16, 3, 1, 1, 4, True, False), (8, 16, 112, 112), False),
        (BlockSpec(64, 64, 3, 1, 1, 8, True, False), (8, 64, 56, 56), False),
        (BlockSpec(32, 128, 3, 1, 1, 4, True, False), (8, 32, 56, 56), True),
        (depthwise(1), (8, 8, 28, 28), True),
        (depthwise(1), (64, 8, 8, 8), False),
        (depthwise(2), (2, 8, 4, 4), True),
        (pointwise(128, 1), (8, 128, 28, 28), False),
        (pointwise(256, 2), (32, 256, 4, 4), False),
        (pointwise(256, 4), (32, 256, 4, 4), True),
        (pointwise(256, 4), (65, 256, 2, 2), True),
        (pointwise(256, 4), (64, 256, 2, 2), False),
        (pointwise(256, 3), (65, 256, 2, 2), False),
        (pointwise(448, 4), (32, 448, 4, 4), True),
        (pointwise(896, 4), (32, 896, 4, 4), False),
        (BlockSpec(576, 96, 1, 1, 1, 4, True, False), (8, 576, 14, 14), False),
        (BlockSpec(96, 576, 1, 1, 1, 4, True, False), (8, 96, 14, 14), True),
        (BlockSpec(64, 128, 1, 2, 1, 2, True, False), (8, 64, 56, 56), True),
        (pointwise(896, 8), (8, 896, 14, 14), True),
        (pointwise(896, 8), (8, 896, 7, 7), False),
        (pointwise(64, 2), (64, 64, 2, 2), True),
        (BlockSpec(8, 8, 5, 1, 2, 8, True, False), (8, 8, 112, 112), False),
        (BlockSpec(8, 8, 3, 1, 8, 1, False, False), (8, 8, 112, 112), False),
        (BlockSpec(8, 8, 3, 1, 8, 1, True, False, method="acnet"), (2, 8, 4, 4), True),
        (BlockSpec(8, 8, 3, 1, 8, 1, True, False, method="repvgg"), (2, 8, 4, 4), False),
        (BlockSpec(8, 8, 3, 1, 8, 4, True, False, method="expandnet"), (8, 8, 112, 112), False),
        (BlockSpec(64, 64, 1, 1, 1, 1, True, False, method="acnet"), (8, 64, 112, 112), False),
        (BlockSpec(8, 8, 3, 1, 8, 2, True, False, dilation=2), (2, 8, 8, 8), True),
        (BlockSpec(8, 8, 3, 1, 8, 1, True, False, dilation=2), (2, 8, 8, 8), False),
        (BlockSpec(8, 8, 3, 1, 8, 2, True, False, dilation=2), (2, 8, 9, 8), False),
        (BlockSpec(8, 8, 3, 2, 8, 4, True, False, dilation=2), (2, 8, 8, 8), False),
        (BlockSpec(3, 48, 3, 1, 1, 4, True, False, dilation=2), (8, 3, 224, 224), False),
    ],
)
def test_the_rule_follows_the_table(monkeypatch, spec, shape, expected):
    monkeypatch.setattr("mobileone_core.model.folded.rule.available", lambda: True)
    x = torch.empty(shape)
    assert folding_is_faster(spec, x) is expected
    assert not folding_is_faster(spec, x.double())
    assert not folding_is_faster(spec, x.to("meta"))
    assert not folding_is_faster(spec, x.contiguous(memory_format=torch.channels_last))
    with torch.autocast("cpu", torch.bfloat16):
        assert not folding_is_faster(spec, x)


@pytest.mark.parametrize(("compiled", "expected"), [(True, True), (False, False)])
def test_without_a_compiler_a_pointwise_block_needs_more_positions(monkeypatch, compiled, expected):
    monkeypatch.setattr("mobileone_core.model.folded.rule.available", lambda: compiled)
    assert folding_is_faster(pointwise(448, 4), torch.empty(32, 448, 4, 4)) is expected


@pytest.mark.parametrize(("k", "expected"), [(1, False), (3, False), (4, True)])
def test_without_a_compiler_a_depthwise_block_needs_more_branches(monkeypatch, k, expected):
    monkeypatch.setattr("mobileone_core.model.folded.rule.available", lambda: False)
    assert folding_is_faster(depthwise(k), torch.empty(8, 8, 28, 28)) is expected


@pytest.mark.parametrize(("k", "like"), [(1, "branches"), (4, "folded")])
def test_auto_computes_as_the_path_it_takes(k, like):
    torch.manual_seed(0)
    block, outputs = MobileOneBlock(pointwise(8, k)).train(), {}
    x = torch.randn(2, 8, 5, 5)
    for execution in ("branches", "folded", "auto"):
        block.execution = execution
        outputs[execution] = block(x)
    assert not torch.equal(outputs["branches"], outputs["folded"])
    assert torch.equal(outputs["auto"], outputs[like])


def timing(k, channels, positions, ratio, kind="dense 1x1/1"):
    condition = {"kind": kind, "dtype": "bfloat16", "channels_last": True, "compiled": False}
    return {"timing": {**condition, "k": k, "channels": channels, "positions": positions, "ratio": ratio}}


H100 = {"name": "NVIDIA H100 80GB HBM3", "type": "cuda", "driver": "580.1", "torch": "2.14.1", "date": "2026-12-01"}
TIMED = [
    timing(1, 64, 50176, 0.7),
    timing(4, 64, 12544, 0.6),
    timing(4, 64, 50176, 1.5),
    timing(4, 64, 200704, 0.9),
    timing(8, 256, 12544, 3.0),
    timing(4, 48, 50176, 2.0, "depthwise 3x3/2"),
]


@pytest.fixture
def measured(monkeypatch, tmp_path):
    """A function that writes a measurement's timings where the rule reads them."""
    monkeypatch.setattr(gpu_timings, "FOLDER", tmp_path / "timings")
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA H100 NVL")
    for function in (gpu_timings.timings, gpu_timings.least_positions):
        function.cache_clear()

    def write(device=H100, results=(*TIMED, {"part": "kernels", "name": "other"})):
        path = tmp_path / "gpu.json"
        path.write_text(json.dumps({"device": device, "results": list(results)}))
        return write_timings(path)

    yield write
    for function in (gpu_timings.timings, gpu_timings.least_positions):
        function.cache_clear()


@pytest.mark.parametrize(
    ("spec", "shape", "expected"),
    [
        (pointwise(64, 4), (16, 64, 56, 56), True),
        (pointwise(64, 4), (15, 64, 56, 56), False),  # folding was slower on fewer positions
        (pointwise(64, 3), (16, 64, 56, 56), False),  # k = 1 is the largest measured k that is not above 3
        (pointwise(64, 8), (16, 64, 56, 56), True),  # at these channels 4 is
        (pointwise(40, 4), (16, 40, 56, 56), True),  # nearest to 64
        (pointwise(24, 4), (16, 24, 56, 56), False),  # too far from all
        (pointwise(300, 9), (64, 300, 14, 14), True),
        (pointwise(300, 4), (64, 300, 14, 14), False),
        (BlockSpec(48, 48, 3, 2, 48, 4, True, False), (16, 48, 112, 112), True),
        (BlockSpec(48, 48, 3, 1, 48, 4, True, False), (16, 48, 112, 112), False),
        (BlockSpec(48, 96, 3, 2, 1, 4, True, False), (16, 48, 112, 112), False),
        (BlockSpec(64, 64, 1, 1, 1, 1, False, False), (16, 64, 56, 56), False),
    ],
)
def test_the_timings_of_a_gpu_decide(measured, spec, shape, expected):
    with FakeTensorMode():
        x = torch.empty(shape, device="cuda", dtype=torch.bfloat16).contiguous(memory_format=torch.channels_last)
        assert not folding_is_faster(spec, x)  # no timings
        gpu_timings.timings.cache_clear()
        gpu_timings.least_positions.cache_clear()
        assert measured().name == "nvidia_h100.json"
        assert folding_is_faster(spec, x) is expected
        assert not folding_is_faster(spec, x.contiguous())
        assert not folding_is_faster(spec, x.float())
        with torch.autocast("cuda", torch.bfloat16):
            assert folding_is_faster(spec, x.float()) is expected


@pytest.mark.parametrize(
    "results",
    [
        [],
        TIMED * 2,
        [timing(4, 64, 100, float("inf"))],
        [timing(0, 64, 100, 1.0)],
        [{"timing": {"k": 4}}],
        [{"timing": None}],
        ["timing"],
    ],
)
def test_other_measurements_are_refused(measured, results):
    with pytest.raises(InputError, match=r"from: .*gpu\.json"):
        measured(results=results)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"device": {}, "results": []}'])
def test_a_file_that_is_no_measurement_is_refused(tmp_path, text):
    path = tmp_path / "gpu.json"
    path.write_text(text)
    with pytest.raises(InputError, match="from: "):
        write_timings(path)


@pytest.mark.slow
def test_the_command_refuses_in_one_line(tmp_path):
    command = [sys.executable, "-m", "mobileone_core.model.folded.rule", "--from", str(tmp_path / "none.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("from: ")


def test_what_a_cpu_measured_is_no_timing_of_a_gpu(measured):
    with pytest.raises(InputError, match="on a GPU"):
        measured(device=H100 | {"type": "cpu"})


@pytest.mark.parametrize(
    ("device", "name"),
    [
        ("NVIDIA A100-SXM4-40GB", "nvidia_a100"),
        ("NVIDIA A100 80GB PCIe", "nvidia_a100"),
        ("NVIDIA H200", "nvidia_h200"),
        ("NVIDIA GeForce RTX 4090", "nvidia_geforce_rtx_4090"),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", "nvidia_h100"),
        ("Tesla V100-SXM2-16GB", "tesla_v100"),
    ],
)
def test_a_family_is_its_devices_without_socket_and_memory(device, name):
    assert gpu_timings.timings_path(device).stem == name


def test_shipped_timings_can_be_read():
    for path in gpu_timings.FOLDER.glob("*.json"):
        name = json.loads(path.read_text())["source"]["name"]
        assert gpu_timings.timings_path(name) == path
        assert gpu_timings.timings(name)
