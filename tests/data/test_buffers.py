"""Memory used again: never while a tensor over it lives, always afterwards."""

import gc
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import resource_sharer
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mobileone_core.data.augment import Normalize
from mobileone_core.data.epochs import Moment, Request
from mobileone_core.data.spec import IMAGENET_MEAN, IMAGENET_STD
from mobileone_core.data.stream import SPARES, ImageSlots, SpareFloats


def request(slot: int, count: int, size: int) -> Request:
    return Request(list(range(count)), Moment(0, size, 0.0), slot)


HOLDERS = {
    "itself": lambda tensor: tensor,
    "a view": lambda tensor: tensor[1:, 0],
    "a detached tensor": lambda tensor: tensor.detach(),
    "an array": lambda tensor: tensor.numpy(),
    "a graph": lambda tensor: (tensor * torch.ones((), requires_grad=True)).sum(),
}


@pytest.mark.parametrize("holder", HOLDERS)
def test_memory_is_lent_again_only_when_nobody_holds_it(holder: str):
    floats = SpareFloats()
    first = floats.empty(4, 3)
    address = first.data_ptr()
    held = HOLDERS[holder](first)
    del first
    second = floats.empty(4, 3)
    assert second.data_ptr() != address
    del held
    assert floats.empty(4, 3).data_ptr() == address


def test_a_gradient_is_right_after_its_input_was_let_go():
    floats, scale = SpareFloats(), torch.ones((), requires_grad=True)
    losses = []
    for number in range(4):
        losses.append((floats.empty(5).fill_(number) * scale).sum())
        floats.empty(5).fill_(99)
    torch.stack(losses).sum().backward()
    assert scale.grad == 5 * (0 + 1 + 2 + 3)


@pytest.mark.slow
def test_sizes_may_change_and_few_arrays_are_kept():
    floats = SpareFloats()
    large = floats.empty(8, 3)
    address = large.data_ptr()
    del large
    assert floats.empty(2, 3).data_ptr() == address
    assert floats.empty(9, 3).shape == (9, 3)
    lent = [floats.empty(9, 3) for _ in range(3 * SPARES)]
    assert len({tensor.data_ptr() for tensor in lent}) == len(lent)
    del lent
    gc.collect()
    assert len(floats._spares) == SPARES


def test_lending_from_several_threads():
    floats = SpareFloats()

    def use(value: int) -> bool:
        lent = floats.empty(1000).fill_(value)
        return bool((lent == value).all())

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(use, range(500)))


@pytest.mark.parametrize("shared", [False, True])
def test_slots_do_not_overlap(shared: bool):
    slots = ImageSlots(3, 4, 8, shared=shared)
    whole = [slots.images(request(number, 4, 8)) for number in range(3)]
    for number, images in enumerate(whole):
        assert images.shape == (4, 3, 8, 8)
        images.fill_(number)
    slots.images(request(1, 2, 5)).fill_(9)
    assert [images.unique().tolist() for images in whole] == [[0], [1, 9], [2]]
    assert slots.memory.is_shared() or slots.descriptor is not None or not shared


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_normalizing_into_memory_gives_the_same_numbers(layout: torch.memory_format):
    normalize = Normalize(IMAGENET_MEAN, IMAGENET_STD, torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    images: Tensor = torch.randint(256, (3, 3, 17, 17), dtype=torch.uint8, generator=generator)
    out = torch.full(images.shape, torch.nan)
    assert torch.equal(normalize.into(out, images.contiguous(memory_format=layout)), normalize(images))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="other systems share memory as torch does")
def test_slots_are_shared_with_started_processes_and_leave_no_descriptor():
    def open_now() -> int:
        return sum(
            path.is_symlink() and "memfd:batches" in str(path.readlink()) for path in Path("/proc/self/fd").iterdir()
        )

    before = open_now()
    slots = ImageSlots(2, 3, 4, shared=True)
    assert open_now() > before
    arrived = pickle.loads(ForkingPickler.dumps(slots))  # as a worker that is not forked gets it
    slots.images(request(1, 3, 4)).fill_(7)
    assert int(arrived.images(request(1, 3, 4)).sum()) == 7 * 3 * 3 * 16
    assert int(arrived.images(request(0, 3, 4)).sum()) == 0
    resource_sharer.stop()
    del slots, arrived
    gc.collect()
    assert open_now() == before
