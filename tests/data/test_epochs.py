"""A rank's share: together the shares of a batch are that batch, and no image is read twice."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mobileone_core.data.epochs import EpochPlan, Share
from mobileone_core.errors import InputError


def plans(count: int, batch_size: int, ranks: int, *, shuffle: bool) -> list[EpochPlan]:
    made = [EpochPlan(count, 3, batch_size, 32, shuffle=shuffle, share=Share(rank, ranks)) for rank in range(ranks)]
    for plan in made:
        plan.set_epoch(2, 0.5)
    return made


@given(st.integers(1, 5), st.integers(1, 8), st.integers(1, 6), st.integers(0, 30))
def test_the_shares_of_a_training_batch_are_equal_in_size_and_together_that_batch(ranks, size, batches, rest):
    count, batch_size = batches * ranks * size + rest, ranks * size
    whole = EpochPlan(count, 3, batch_size, 32, shuffle=True)
    whole.set_epoch(2, 0.5)
    shares = plans(count, batch_size, ranks, shuffle=True)
    assert {len(plan) for plan in shares} == {len(whole)}
    for batch, *parts in zip(whole.batches(), *(plan.batches() for plan in shares), strict=True):
        assert {len(part) for part in parts} == {size}
        assert torch.equal(torch.stack(parts, dim=1).flatten(), batch)


@given(st.integers(1, 5), st.integers(1, 8), st.integers(0, 60))
def test_evaluation_reads_every_image_once(ranks, size, more):
    count = ranks + more
    shares = plans(count, ranks * size, ranks, shuffle=False)
    read = [torch.cat(list(plan.batches())).tolist() for plan in shares]
    assert sorted(index for part in read for index in part) == list(range(count))
    assert max(map(len, read)) - min(map(len, read)) <= 1
    assert all(len(plan) == len(plan.batches()) for plan in shares)
    assert all(0 < len(batch) <= size for plan in shares for batch in plan.batches())


@pytest.mark.parametrize(
    ("count", "batch_size", "shuffle", "message"),
    [
        (100, 9, True, "batch_size: 9 is not allowed; a multiple of the processes that train together, which are 2"),
        (7, 8, True, "processes: 2 is not allowed; the 7 images of a split cannot be shared out so"),
        (1, 8, False, "processes: 2 is not allowed; the 1 images"),
    ],
)
def test_what_cannot_be_shared_is_refused(count, batch_size, shuffle, message):
    with pytest.raises(InputError, match=message):
        plans(count, batch_size, 2, shuffle=shuffle)


SCALES = ((20, 160), (28, 80), (32, 64), (40, 40), (44, 32))


def scaled(count: int, seed: int = 3, ranks: int = 1, rank: int = 0, epoch: int = 2) -> EpochPlan:
    plan = EpochPlan(count, seed, 64, 32, shuffle=True, share=Share(rank, ranks), scales=SCALES)
    plan.set_epoch(epoch, 0.5)
    return plan


@given(st.integers(64, 2000), st.integers(0, 9), st.integers(0, 9), st.sampled_from([1, 2, 4]))
def test_scaled_batches_read_every_image_and_share_each_batch_equally(count, seed, epoch, ranks):
    whole = scaled(count, seed, epoch=epoch)
    batches, (_, moments, numbers) = whole.batches(), zip(*whole, strict=True)
    assert all((moment.image_size, len(batch)) in SCALES for batch, moment in zip(batches, moments, strict=True))
    assert {moment.epoch for moment in moments} == {epoch}
    assert numbers == tuple(range(len(batches)))
    read = torch.cat(batches).tolist()
    assert sorted(read[:count]) == list(range(count))  # once each
    assert len(read) - len(batches[-1]) < count  # the last batch is filled up
    assert all(index == read[number % count] for number, index in enumerate(read))
    shares = [scaled(count, seed, ranks, rank, epoch) for rank in range(ranks)]
    assert {len(plan) for plan in shares} == {len(whole)}
    for batch, *parts in zip(batches, *(plan.batches() for plan in shares), strict=True):
        assert torch.equal(torch.stack(parts, dim=1).flatten(), batch)


def test_a_scale_is_drawn_from_seed_epoch_and_step_alone():
    drawn = {
        (count, seed, epoch): [moment.image_size for _, moment, _ in scaled(count, seed, epoch=epoch)]
        for count, seed, epoch in ((4000, 3, 2), (400, 3, 2), (4000, 3, 3), (4000, 4, 2))
    }
    first, short, *others = drawn.values()
    assert short == first[: len(short)]
    assert all(other[: len(short)] != short for other in others)
    assert {size for size, _ in SCALES} == set(first)


def test_scales_that_processes_cannot_share_are_refused():
    with pytest.raises(InputError, match="batch_size: 40 is not allowed; a multiple of the processes"):
        EpochPlan(500, 3, 64, 32, shuffle=True, share=Share(0, 16), scales=SCALES)
