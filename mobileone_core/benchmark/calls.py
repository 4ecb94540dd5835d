"""Calls whose cost is measured: a training step and an inference on given images; and the memory that a call takes."""

import itertools
import os
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.autograd import profiler
from torch.nn import functional as F

from mobileone_core.benchmark.interleave import Call, collection_off
from mobileone_core.data.seeding import derive_seed
from mobileone_core.training.execution import autocast, resolve_precision
from mobileone_core.training.optimizer import build_optimizer
from mobileone_core.training.recipe import Recipe

# of timed steps: so small that every call does the same work. At a recipe's rate a network without normalization
# explodes within a few steps.
LEARNING_RATE = 1e-15


class TrainingStep:
    """Forward, loss, backward, optimizer step, on one fixed batch; gradients are released at the end.

    images: (B, C, H, W); labels: (B,). Optimizer, precision, label smoothing and clipping are the recipe's; there are
    no averaged weights and no teachers. loss is that of the last step.
    """

    def __init__(self, network: nn.Module, recipe: Recipe, images: Tensor, labels: Tensor) -> None:
        self.network, self.images, self.labels = network.train(), images, labels
        self.recipe, self.optimizer = recipe, build_optimizer(network, recipe)
        precision = resolve_precision(images.device, recipe.precision)
        self.scaler = torch.amp.GradScaler(images.device.type, enabled=precision == "16-mixed")
        self.loss = images.new_zeros(())

    def logits(self) -> Tensor:
        """The forward alone: (B, classes)."""
        with autocast(self.images.device, self.recipe.precision):
            logits: Tensor = self.network(self.images)
        return logits

    def __call__(self) -> None:
        logits = self.logits()
        loss = F.cross_entropy(logits.float(), self.labels, label_smoothing=self.recipe.label_smoothing)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        if self.recipe.clip_norm:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        self.loss.copy_(loss.detach())


class Inference:
    """One batch of images (B, C, H, W) in evaluation mode, without gradients."""

    def __init__(self, network: nn.Module, recipe: Recipe, images: Tensor) -> None:
        self.network, self.precision, self.images = network.eval(), recipe.precision, images

    def __call__(self) -> None:
        with torch.inference_mode(), autocast(self.images.device, self.precision):
            self.network(self.images)


def noise(shape: tuple[int, ...], seed: int, *purpose: str | int) -> Tensor:
    """Normal noise, the same for the same seed and purpose."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(derive_seed(seed, *purpose)))


def synchronized(call: Call, device: torch.device) -> Call:
    """A call that waits until the device has finished its work; the call itself on a CPU."""
    if device.type != "cuda":
        return call

    def call_and_wait() -> None:
        call()
        torch.cuda.synchronize(device)

    return call_and_wait


def peak_bytes(call: Callable[[], object], device: torch.device) -> int:
    """Peak of the bytes that torch allocates on the device during a call, above those allocated before.

    Working buffers of torch's kernels count; memory that a library takes from the system itself does not. The result is
    the same every time.
    """
    with collection_off():
        if device.type != "cuda":
            return _peak_on_cpu(call)
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        synchronized(call, device)()
        return torch.cuda.max_memory_allocated(device) - before


def _peak_on_cpu(call: Callable[[], object]) -> int:
    """The highest running sum of the profiler's allocations (positive) and releases (negative)."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else the profiler writes to standard error
    with profiler.profile(profile_memory=True) as profile:
        call()
    assert profile.kineto_results is not None
    events = [event for event in profile.kineto_results.events() if event.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    return max(itertools.accumulate((int(event.nbytes()) for event in events), initial=0))


def saved_bytes(forward: Callable[[], object], parameters: Iterable[Tensor]) -> int:
    """Bytes that autograd saves during a forward pass for the backward pass.

    Every storage counts once and whole; storages of the parameters do not count. All of it is released afterwards.
    """
    excluded = {value.untyped_storage().data_ptr() for value in parameters}
    saved: dict[int, Tensor] = {}  # tensors stay alive, so that no other storage gets the same address

    def pack(value: Tensor) -> Tensor:
        # detached: a node that held its own output would keep the whole graph alive
        detached = value.detach()
        pointer = value.untyped_storage().data_ptr()
        if pointer not in excluded:
            saved[pointer] = detached
        return detached

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        forward()
    return sum(value.untyped_storage().nbytes() for value in saved.values())
