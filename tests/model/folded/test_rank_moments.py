"""Merged moments of all ranks equal the moments of all their images in one process."""

import pytest
import torch
from folded_blocks import draw_block
from hypothesis import given
from hypothesis import strategies as st

from mobileone_core.errors import InputError
from mobileone_core.model.folded import block as folding
from mobileone_core.model.folded import distributed
from mobileone_core.model.folded.algebra import Moments
from mobileone_core.model.folded.block import statistics_for
from mobileone_core.model.folded.distributed import merge_moments
from mobileone_core.model.folded.geometry import Geometry
from mobileone_core.model.folded.pointwise import Pointwise
from mobileone_core.model.network import build_model, set_sync_batchnorm
from mobileone_core.model.spec import BlockSpec

GEOMETRIES = [Geometry(1, 1, 1, 4, 6), Geometry(4, 3, 1, 4, 4), Geometry(4, 3, 2, 4, 4), Geometry(1, 3, 2, 4, 6)]


def merged(parts, geometry):
    """Mean and covariance of the images of several ranks (N_r, C, H, W), by merging."""
    counts = torch.tensor([float(geometry.positions(part.shape)) for part in parts], dtype=parts[0].dtype)
    moments = [statistics_for(geometry, part).moments(part) for part in parts]
    scatter = sum(count * item.covariance for count, item in zip(counts, moments, strict=True))
    return merge_moments(counts, torch.stack([item.mean for item in moments]), scatter)[0]


def draw(sizes, offset, drift, dtype=torch.float64):
    """Images (N_r, 4, 5, 5) of several ranks, whose means grow by drift per rank."""
    generator = torch.Generator().manual_seed(sum(sizes))
    noise = [torch.randn(size, 4, 5, 5, generator=generator, dtype=torch.float64) for size in sizes]
    return [(value + offset + rank * drift).to(dtype) for rank, value in enumerate(noise)]


@given(
    geometry=st.sampled_from(GEOMETRIES),
    sizes=st.lists(st.integers(1, 3), min_size=1, max_size=4),
    offset=st.sampled_from([0.0, -3.0, 1e3, 1e6]),
    drift=st.sampled_from([0.0, 0.1, 5.0]),
)
def test_they_are_the_moments_of_all_images(geometry, sizes, offset, drift):
    parts = draw(sizes, offset, drift)
    whole = torch.cat(parts)
    mean, covariance = statistics_for(geometry, whole).moments(whole)
    result = merged(parts, geometry)
    spread = covariance.diagonal(dim1=1, dim2=2).sqrt()
    assert ((result.mean - mean).abs() <= 1e-13 * (spread + abs(offset))).all()
    scale = spread.unsqueeze(2) * spread.unsqueeze(1)  # a correlation's unit
    rounding = 1e-14 * (1 + (mean.abs() / spread).max())  # the means', which every BN has as well
    assert ((result.covariance - covariance).abs() <= rounding * scale).all()


def test_the_spread_survives_means_ten_thousand_times_larger():
    """In float32, where E[x x^T] - m m^T has nothing of it left."""
    parts = draw([3, 1, 2], 1e4, 1.0, torch.float32)
    expected = Pointwise(GEOMETRIES[0]).moments(torch.cat(parts).double()).covariance
    assert (merged(parts, GEOMETRIES[0]).covariance.double() - expected).abs().max() < 1e-3 * expected.abs().max()


@pytest.mark.parametrize("execution", ["branches", "folded"])
def test_without_others_nothing_changes(execution):
    x, outputs = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)), []
    for sync_batchnorm in (False, True):
        torch.manual_seed(0)
        network = set_sync_batchnorm(build_model("tiny", 5, execution).train(), sync_batchnorm)
        outputs.append(network(x))
    assert torch.equal(*outputs)


def test_what_would_follow_its_own_batch_is_refused(monkeypatch):
    """One frozen branch leaves the others to their own statistics; with all of them frozen nothing is shared."""
    monkeypatch.setattr(folding, "has_other_ranks", lambda: True)
    block = set_sync_batchnorm(draw_block(BlockSpec(4, 4, 3, 1, 4, 2, True, False)))
    block.execution = "folded"
    x = torch.randn(2, 4, 5, 5, dtype=torch.float64)
    block.conv_kxk[0].bn.eval()
    with pytest.raises(InputError, match="sync_batchnorm: True is not allowed; it needs execution folded or auto"):
        block(x)
    assert block.eval()(x).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ranks_speak_float64_whatever_the_dtype_of_their_moments(monkeypatch, dtype):
    sent = []
    monkeypatch.setattr(distributed.dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(distributed.dist, "get_rank", lambda: 0)
    monkeypatch.setattr(distributed.dist, "all_reduce", sent.append)
    own = Moments(torch.ones(4, 9, dtype=dtype), torch.ones(4, 9, 9, dtype=dtype))
    result, _ = distributed.all_reduce_moments(own, 7)
    gradients = distributed.all_reduce_sums(own.covariance, own.mean)
    assert [(item.dtype, item.numel()) for item in sent] == [(torch.float64, 398), (torch.float64, 360)]
    assert {value.dtype for value in (*result, *gradients)} == {dtype}
    assert torch.equal(result.mean, own.mean)
