"""What "auto" takes: the measured table's sides, and nothing where nothing was measured."""

import pytest
import torch

from mobileone_core.model.blocks import MobileOneBlock
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
        (pointwise(896, 8), (8, 896, 14, 14), True),
        (pointwise(896, 8), (8, 896, 7, 7), False),
        (pointwise(64, 2), (64, 64, 2, 2), True),
        (BlockSpec(8, 8, 5, 1, 2, 8, True, False), (8, 8, 112, 112), False),
        (BlockSpec(8, 8, 3, 1, 8, 1, False, False), (8, 8, 112, 112), False),
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
