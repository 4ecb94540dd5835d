"""The calls whose cost is measured: a training step and an inference, on random images, without data loading."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mobileone_core.data.seeding import derive_seed
from mobileone_core.model.calibration import calibrate
from mobileone_core.model.network import build_model
from mobileone_core.model.reparam import reparameterize
from mobileone_core.training.cell import CellSpec
from mobileone_core.training.comparison import Form
from mobileone_core.training.execution import Execution
from mobileone_core.training.optimizer import build_optimizer
from mobileone_core.training.recipe import Precision, Recipe

CALIBRATION_BATCHES = 3
# Of timed steps: its size costs nothing, and with this one every call does the same work. At the recipes' own a
# network without normalization explodes within a few steps.
LEARNING_RATE = 1e-15


class TrainingStep:
    """Forward, loss, backward, optimizer step, on one fixed batch; gradients are released at the end.

    images: (B, C, H, W); labels: (B,). The recipe's optimizer, precision, smoothing and clipping; neither averaged
    weights nor teachers. loss is the last step's.
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


Calls = dict[str, TrainingStep | Inference]


def build_forms(spec: CellSpec, execution: Execution, device: torch.device) -> dict[Form, nn.Module]:
    """A cell's network in train form, initialized by its seed and calibrated, and that network folded."""
    torch.manual_seed(derive_seed(spec.seed, "init"))
    network = build_model(spec.model, spec.data.num_classes, execution.blocks).to(device)
    calibrate(network, [_images(spec, "calibration", index).to(device) for index in range(CALIBRATION_BATCHES)])
    layout = _layout(execution)
    return {"train": network.to(memory_format=layout), "deployed": reparameterize(network).to(memory_format=layout)}


def build_calls(network: nn.Module, spec: CellSpec, execution: Execution) -> Calls:
    """step, on a batch of the recipe's size and at LEARNING_RATE, and inference, on one image.

    Each has its own copy of the network.
    """
    device = next(network.parameters()).device
    images = _images(spec, "images").to(device).contiguous(memory_format=_layout(execution))
    labels = torch.arange(len(images), device=device) % spec.data.num_classes
    learner, reader = copy.deepcopy(network), copy.deepcopy(network)
    if execution.compile:
        learner.compile()
        reader.compile()
    step = TrainingStep(learner, replace(spec.recipe, lr=LEARNING_RATE), images, labels)
    return {"step": step, "inference": Inference(reader, spec.recipe, images[:1])}


def _images(spec: CellSpec, *purpose: str | int) -> Tensor:
    """Random images (B, C, S, S) in the recipe's and the data's shape."""
    generator = torch.Generator().manual_seed(derive_seed(spec.seed, *purpose))
    size = spec.data.image_size
    return torch.randn((spec.recipe.batch_size, spec.data.channels, size, size), generator=generator)


def _layout(execution: Execution) -> torch.memory_format:
    return torch.channels_last if execution.channels_last else torch.contiguous_format


@contextmanager
def _precision(precision: Precision, device: torch.device) -> Iterator[None]:
    dtype = torch.float16 if precision == "16-mixed" else torch.bfloat16
    with torch.autocast(device.type, dtype, enabled=precision != "32"):
        yield
