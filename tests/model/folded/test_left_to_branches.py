"""Blocks that the folded path does not take are computed, or refused, as the branches do it."""

import pytest
import torch
from torch import nn
from torch._subclasses import FakeTensorMode

from mobileone_core.errors import InputError
from mobileone_core.model.blocks import MobileOneBlock
from mobileone_core.model.folded import block as folding
from mobileone_core.model.spec import BlockSpec

SPECS = {
    "pointwise": BlockSpec(8, 6, 1, 1, 1, 4, reparam=True, se=False),
    "depthwise": BlockSpec(8, 8, 3, 1, 8, 4, reparam=True, se=False),
    "strided": BlockSpec(8, 8, 3, 2, 8, 4, reparam=True, se=False),
    "dense": BlockSpec(8, 6, 3, 1, 1, 4, reparam=True, se=False),
}
ALL = pytest.mark.parametrize("spec", SPECS.values(), ids=list(SPECS))


def pair(spec):
    """The same block twice: by its branches, and folded."""
    blocks = [MobileOneBlock(spec).train() for _ in range(2)]
    blocks[1].load_state_dict(blocks[0].state_dict())
    for block, execution in zip(blocks, ("branches", "folded"), strict=True):
        block.execution = execution
    return blocks


def buffers(block):
    return {name: value.clone() for name, value in block.named_buffers()}


@ALL
@pytest.mark.parametrize(
    "x",
    [
        torch.ones(2, 8, 6, 6, dtype=torch.uint8),
        torch.ones(2, 8, 6, 6, dtype=torch.int64),
        torch.ones(2, 8, 6, 6, dtype=torch.float64),
        torch.ones(2, 16, 6, 6),
        torch.ones(2, 1, 6, 6),
        torch.ones(2, 6, 6),
        torch.ones(2, 8, 6, 6, device="meta"),
    ],
    ids=["uint8", "int64", "float64", "16 channels", "1 channel", "3 dimensions", "meta"],
)
def test_a_wrong_input_is_refused_in_the_words_of_the_branches(spec, x):
    branches, folded = pair(spec)
    with pytest.raises((RuntimeError, ValueError, NotImplementedError)) as expected:
        branches(x)
    with pytest.raises(type(expected.value)) as results:
        folded(x)
    assert str(results.value) == str(expected.value)
    as_branches = buffers(branches)
    assert all(torch.equal(value, as_branches[name]) for name, value in folded.named_buffers())


@ALL
def test_an_empty_batch_changes_nothing(spec):
    _, folded = pair(spec)
    before = buffers(folded)
    out = folded(torch.ones(0, 8, 6, 6, requires_grad=True))
    out.sum().backward()
    assert out.shape[:2] == (0, spec.out_channels)
    assert all(parameter.grad is not None and not parameter.grad.any() for parameter in folded.parameters())
    moved = [name for name, value in folded.named_buffers() if not torch.equal(value, before[name])]
    assert all(name.endswith("num_batches_tracked") for name in moved)


def test_an_empty_share_of_a_synchronized_batch_is_refused(monkeypatch):
    _, folded = pair(SPECS["depthwise"])
    monkeypatch.setattr(folding, "has_other_ranks", lambda: True)
    folded.sync_batchnorm = True
    with pytest.raises(InputError, match="batch: 0 is not allowed"):
        folded(torch.ones(0, 8, 6, 6))


@ALL
def test_fake_tensors_pass(spec):
    with FakeTensorMode():
        _, folded = pair(spec)
        out = folded(torch.empty(2, 8, 6, 6, requires_grad=True))
        out.sum().backward()
    assert out.shape[:2] == (2, spec.out_channels)


@ALL
def test_a_network_without_memory_passes(spec):
    _, folded = pair(spec)
    assert folded.to("meta")(torch.empty(2, 8, 6, 6, device="meta")).shape[:2] == (2, spec.out_channels)


@pytest.mark.parametrize(
    "other", [nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=8, bias=False), nn.Conv2d(8, 8, 3, padding=1, groups=8)]
)
def test_a_convolution_put_in_a_branch_s_place_is_computed(other):
    branches, folded = pair(SPECS["depthwise"])
    for block in (branches, folded):
        block.conv_kxk[1].conv = other
    x = torch.randn(2, 8, 9, 9)
    assert torch.equal(branches(x), folded(x))


@ALL
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_channels_last(spec, dtype):
    blocks = [block.to(dtype) for block in pair(spec)]
    x = torch.randn(2, 8, 6, 6, dtype=dtype).to(memory_format=torch.channels_last)
    results = []
    for block in blocks:
        out = block.to(memory_format=torch.channels_last)(x)
        torch.manual_seed(0)
        (out * torch.randn(out.shape, dtype=dtype)).sum().backward()
        results.append([out, *(parameter.grad for parameter in block.parameters())])
    for mine, other in zip(*results, strict=True):
        assert (mine - other).norm() <= (1e-4 if dtype == torch.float32 else 1e-10) * max(1, other.norm())


def test_autocast_leaves_float64_alone():
    branches, folded = (block.double() for block in pair(SPECS["depthwise"]))
    x = torch.randn(2, 8, 6, 6, dtype=torch.float64)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = branches(x), folded(x)
    assert {out.dtype for out in outputs} == {torch.float64}
    assert torch.allclose(*outputs, rtol=0, atol=1e-9)
