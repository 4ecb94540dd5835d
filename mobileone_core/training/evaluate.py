"""How good a checkpoint is: top-1, top-5 and plain cross entropy over a split's images. No Lightning here."""

import math
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from mobileone_core.errors import InputError
from mobileone_core.model.checkpoints import holds_deployed, read_state
from mobileone_core.model.network import MobileOne
from mobileone_core.model.spec import ModelSpec
from mobileone_core.model.weights import load_weights
from mobileone_core.training.recipe import Precision

Form = Literal["file", "train", "deployed"]
Seen = Callable[[int, int], None]  # images and right answers so far
AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


def ranks(num_classes: int) -> tuple[int, ...]:
    """The k of the top-k accuracies that say something: top-5 needs more than 5 classes."""
    return (1, 5) if num_classes > 5 else (1,)


def read_network(spec: ModelSpec, num_classes: int, weights: Path, form: Form = "file") -> MobileOne:
    """The network of a weight file, in the form that the file holds or in the one asked for, in evaluation mode.

    A file in train form is folded for the deployed one. Raises InputError for a file that cannot be read, does not
    fit the network, or holds the deployed form where the train form is asked for.
    """
    _, state = read_state(weights)
    is_deployed = holds_deployed(state) if form == "file" else form == "deployed"
    network = MobileOne(spec, num_classes, deployed=is_deployed)
    load_weights(network, weights)
    return network.eval()


def evaluate(  # noqa: PLR0913
    network: MobileOne,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    stage: str,
    device: torch.device,
    precision: Precision = "32",
    layout: torch.memory_format = torch.contiguous_format,
    seen: Seen = lambda *_: None,
) -> dict[str, float]:
    """The metrics of images (B, C, S, S) with labels (B,): accuracies are fractions, the loss has no smoothing.

    Named stage/top1, stage/top5 (of more than 5 classes), stage/loss, stage/images; time/images_per_second counts
    decoding too. Moves the network to the device. Raises InputError where its outputs are not finite.
    """
    network = network.eval().to(device, memory_format=layout)  # type: ignore[call-overload]
    right, loss, images = dict.fromkeys(ranks(network.num_classes), 0), 0.0, 0
    began = time.perf_counter()
    with torch.inference_mode():
        for pixels, labels in batches:
            with torch.autocast(device.type, AUTOCAST.get(precision), enabled=precision in AUTOCAST):
                logits = network(pixels.contiguous(memory_format=layout)).float()
            is_label = logits.topk(max(right)).indices == labels[:, None]
            for k in right:
                right[k] += int(is_label[:, :k].sum())
            loss += float(F.cross_entropy(logits, labels, reduction="sum"))
            images += len(labels)
            seen(images, right[1])
    if not math.isfinite(loss):
        raise InputError(f"{stage}/loss: {loss}; the network's outputs are not finite")
    seconds = time.perf_counter() - began
    accuracies = {f"{stage}/top{k}": count / images for k, count in right.items()}
    told = {f"{stage}/loss": loss / images, f"{stage}/images": float(images)}
    return {**accuracies, **told, "time/images_per_second": images / seconds}
