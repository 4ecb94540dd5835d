"""What "auto" takes: the measured table's sides, and nothing where nothing was measured."""

import pytest
import torch

from mobileone_core.model.blocks import MobileOneBlock
from mobileone_core.model.folded.geometry import Geometry
from mobileone_core.model.folded.rule import pays
from mobileone_core.model.spec import BlockSpec


@pytest.mark.parametrize(
    ("spec", "side", "expected"),
    [
        (BlockSpec(3, 48, 3, 2, 1, 1, True, False), 224, True),
        (BlockSpec(1, 16, 3, 2, 1, 1, True, False), 16, False),
        (BlockSpec(1, 16, 3, 2, 1, 4, True, False), 16, True),
        (BlockSpec(8, 8, 3, 1, 8, 1, True, False), 28, False),
        (BlockSpec(8, 8, 3, 1, 8, 4, True, False), 28, True),
        (BlockSpec(8, 8, 3, 1, 8, 4, True, False), 4, True),
        (BlockSpec(8, 8, 1, 1, 1, 1, True, False), 28, False),
        (BlockSpec(8, 8, 1, 1, 1, 4, True, False), 4, True),
        (BlockSpec(8, 8, 5, 1, 2, 8, True, False), 28, False),
    ],
)
def test_the_rule_follows_the_table(spec, side, expected):
    x = torch.empty(2, spec.in_channels, side, side)
    assert pays(Geometry.of(spec), spec.k, x) is expected
    assert not pays(Geometry.of(spec), spec.k, x.double())
    assert not pays(Geometry.of(spec), spec.k, x.to("meta"))
    with torch.autocast("cpu", torch.bfloat16):
        assert not pays(Geometry.of(spec), spec.k, x)


@pytest.mark.parametrize(("k", "like"), [(1, "branches"), (4, "folded")])
def test_auto_computes_as_the_path_it_takes(k, like):
    torch.manual_seed(0)
    block, outputs = MobileOneBlock(BlockSpec(8, 8, 1, 1, 1, k, True, False)).train(), {}
    x = torch.randn(2, 8, 5, 5)
    for execution in ("branches", "folded", "auto"):
        block.execution = execution
        outputs[execution] = block(x)
    assert not torch.equal(outputs["branches"], outputs["folded"])
    assert torch.equal(outputs["auto"], outputs[like])
