"""Evaluation of a network: metrics over a split's images, and the difference between its two forms."""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torchmetrics import MaxMetric, MeanMetric, MetricCollection

from mobileone_core.errors import InputError, reason_of, require
from mobileone_core.model.checkpoints import HEADS, WeightSet
from mobileone_core.model.network import MobileOne
from mobileone_core.model.reparam import reparameterize
from mobileone_core.model.spec import ModelSpec
from mobileone_core.model.weights import load_weights
from mobileone_core.training.cell import CellSpec
from mobileone_core.training.execution import autocast
from mobileone_core.training.recipe import RecipePrecision
from mobileone_core.training.tasks.task import Task, build_task

Form = Literal["file", "train", "deployed"]
TensorsOf = Callable[[Any], Sequence[Tensor]]
Progress = Callable[[int, MetricCollection], None]  # progress(images so far, their metrics)


def read_network(spec: ModelSpec, weights: WeightSet, form: Form = "file") -> MobileOne:
    """The classifier with these weights, in evaluation mode.

    form "file" keeps the form that the weights have; "deployed" folds those in train form. Raises InputError for
    weights that do not fit the network or have no classifier, and for "train" if they are in deployed form.
    """
    allowed = f"those of a classifier ({' or '.join(HEADS)})"
    require(weights.num_classes > 0, "weights", weights.source, allowed)
    is_deployed = weights.deployed if form == "file" else form == "deployed"
    network = MobileOne(spec, weights.num_classes, deployed=is_deployed)
    load_weights(network, weights)
    return network.eval()


def cell_network(spec: CellSpec, weights: Mapping[str, Tensor], form: Form = "train") -> nn.Module:
    """The network of a cell of any task with weights in either form, in evaluation mode.

    form "file" keeps the form of the weights. Raises InputError for weights of another network or form.
    """
    network, is_deployed = build_task(spec).build_network().eval(), any("reparam" in name for name in weights)
    require(form != "train" or not is_deployed, "form", form, "deployed, the form of the weights")
    network = reparameterize(network) if is_deployed else network
    try:
        network.load_state_dict({name: item for name, item in weights.items() if name != "n_averaged"})
    except RuntimeError as error:
        reason = reason_of(error)
        raise InputError(f"weights: not those of this {spec.task} network ({reason})") from error
    return reparameterize(network) if form == "deployed" and not is_deployed else network


class SubsetAccuracy(MeanMetric):
    """Top-k accuracy if a network can predict a subset of its classes alone, given by their numbers."""

    def __init__(self, subset: Sequence[int], k: int) -> None:
        super().__init__()
        self.subset, self.k = list(subset), k

    def update(self, outputs: Tensor, targets: Tensor) -> None:  # type: ignore[override]
        """Add a batch of logits (B, classes) and labels (B,)."""
        numbers = torch.tensor(self.subset, device=outputs.device)
        best = numbers[outputs[:, numbers].topk(self.k).indices]
        super().update((best == targets[:, None]).any(1).float())


def evaluate(  # noqa: PLR0913
    network: nn.Module,
    task: Task,
    batches: Iterable[tuple[Tensor, Any]],
    *,
    stage: str,
    device: torch.device,
    precision: RecipePrecision = "32",
    layout: torch.memory_format = torch.contiguous_format,
    subset: Sequence[int] = (),
    progress: Progress = lambda *_: None,
    mistakes: Any = None,
) -> dict[str, float]:
    """Measure a task's loss and metrics over batches of images (B, C, S, S) and targets.

    Moves the network to the device. Raises InputError if its outputs are not finite.

    Args:
        network, task: the network, in either form; what gives loss and metrics. A recipe without label smoothing gives
            the plain cross entropy.
        batches, stage: what to evaluate; prefix of the results, val or test.
        device, precision, layout: where to compute, a recipe's precision, memory format of weights and images.
        subset: numbers of the classes that the images have; accuracies among these alone are added.
        progress, mistakes: called after each batch; what collects mistakes, as Task.mistakes returns it.

    Returns:
        stage/loss, stage/images, the task's metrics such as stage/top1 (fractions), and time/images_per_second,
        decoding included; with a subset stage/subset_top1 and so on too.
    """
    network = network.eval().to(device, memory_format=layout)  # type: ignore[call-overload]
    metrics, loss, images = task.metrics(), 0.0, 0
    metrics.add_metrics({f"subset_top{k}": SubsetAccuracy(subset, k) for k in (1, 5) if k < len(subset)})
    metrics = metrics.to(device)
    started = time.perf_counter()
    with torch.inference_mode():
        for pixels, targets in batches:
            with autocast(device, precision):
                outputs = network(pixels.contiguous(memory_format=layout))
            metrics.update(task.predictions(outputs, pixels), targets)
            loss += float(task.image_losses(outputs, targets).mean()) * len(pixels)
            if mistakes is not None:
                mistakes.update(pixels, outputs, targets)
            images += len(pixels)
            progress(images, metrics)
    if not math.isfinite(loss):
        raise InputError(f"{stage}/loss: {loss}; the network's outputs are not finite")
    seconds = time.perf_counter() - started
    results = {"loss": loss / images, "images": images, **metrics.compute()}
    named = {f"{stage}/{name}": float(value) for name, value in results.items()}
    return {**named, "time/images_per_second": images / seconds}


class FormDifference:
    """Largest difference over batches between the outputs of a network and of its deployed form.

    Not an nn.Module, so that the deployed copy stays out of the state dict. tensors gives the tensors within outputs.
    """

    def __init__(self, network: nn.Module, layout: torch.memory_format, tensors: TensorsOf) -> None:
        self.deployed, self.tensors = reparameterize(network).to(memory_format=layout), tensors
        device = next(self.deployed.parameters()).device
        self.difference = MaxMetric(nan_strategy="disable").to(device)
        self.largest = MaxMetric(nan_strategy="disable").to(device)

    def update(self, images: Tensor, outputs: Any) -> None:
        """Compare a batch of images (B, C, H, W) with the outputs that the network gave for it."""
        for deployed, trained in zip(self.tensors(self.deployed(images)), self.tensors(outputs), strict=True):
            self.difference.update((deployed - trained).abs())
            self.largest.update(trained.abs())

    def compute(self) -> dict[str, float]:
        """form_difference, absolute, and form_difference_relative, a fraction of the largest output."""
        difference, largest = float(self.difference.compute()), float(self.largest.compute())
        return {"form_difference": difference, "form_difference_relative": difference / largest if largest else 0.0}
