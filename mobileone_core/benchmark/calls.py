"""Calls whose cost is measured: a training step and an inference, on given images, without data loading."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mobileone_core.benchmark.interleave import Call
from mobileone_core.training.optimizer import build_optimizer
from mobileone_core.training.recipe import Precision, Recipe

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
        self.recipe = recipe
        self.optimizer = build_optimizer(network, recipe)
        self.scaler = torch.amp.GradScaler(images.device.type, enabled=recipe.precision == "16-mixed")
        self.loss = images.new_zeros(())

    def logits(self) -> Tensor:
        """The forward alone: (B, classes)."""
        with _precision(self.recipe.precision, self.images.device):
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
        with torch.inference_mode(), _precision(self.precision, self.images.device):
            self.network(self.images)


def synchronized(call: Call, device: torch.device) -> Call:
    """A call that waits until the device has finished its work; the call itself on a CPU."""
    if device.type != "cuda":
        return call

    def call_and_wait() -> None:
        call()
        torch.cuda.synchronize(device)

    return call_and_wait


@contextmanager
def _precision(precision: Precision, device: torch.device) -> Iterator[None]:
    dtype = torch.float16 if precision == "16-mixed" else torch.bfloat16
    with torch.autocast(device.type, dtype, enabled=precision != "32"):
        yield
