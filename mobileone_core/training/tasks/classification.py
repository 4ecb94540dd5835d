"""Classification: one label per image, cross entropy, top-1 and top-5 accuracy, and what a test confused."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from mobileone_core.errors import require
from mobileone_core.model.expand.block import ExpandedConv2d
from mobileone_core.model.folded.statistics import at_least_float32
from mobileone_core.model.network import build_model
from mobileone_core.model.reparam import expand
from mobileone_core.model.spec import BlockExecution
from mobileone_core.texts import csv_text
from mobileone_core.training.named_networks import Expansion, classifier_by_name
from mobileone_core.training.tasks.backbones import cost_of
from mobileone_core.training.tasks.task import Task

WORST = 16  # images in the grid
SIDE, MARGIN = 96, 14  # pixels of an image in the grid, and of the line below it
NAMED = 100  # classes up to which the matrix is saved: more give no readable picture


class Mistakes:
    """Collects, over the batches of a test, which class was taken for which, and the images with the largest losses."""

    def __init__(self, classes: int) -> None:
        self.matrix = torch.zeros(classes, classes, dtype=torch.long)  # true class, predicted class
        self.worst: list[tuple[float, int, int, Tensor]] = []  # loss, true class, predicted class, image

    def update(self, images: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Add a batch: normalized images (B, C, S, S), logits (B, classes) and labels (B,)."""
        losses = F.cross_entropy(at_least_float32(logits), labels, reduction="none")
        predicted = logits.argmax(1)
        pairs = (labels * len(self.matrix) + predicted).cpu()
        self.matrix += torch.bincount(pairs, minlength=self.matrix.numel()).view_as(self.matrix)
        wrong = (predicted != labels).nonzero()[:, 0]
        for index in wrong[losses[wrong].argsort(descending=True)[:WORST]].tolist():
            self.worst.append((float(losses[index]), int(labels[index]), int(predicted[index]), images[index].cpu()))
        self.worst = sorted(self.worst, key=lambda item: -item[0])[:WORST]

    def save(self, directory: Path, names: Sequence[str]) -> tuple[Path, ...]:
        """Write mistakes.png, and confusion.csv and confusion.png of up to 100 classes; return the files.

        names: of the classes; their numbers are shown if it is empty.
        """
        classes = len(self.matrix)
        names = names if len(names) == classes else [str(number) for number in range(classes)]
        files = [directory / "mistakes.png"] if self.worst else []
        if self.worst:
            self._grid(names).save(files[0])
        if classes <= NAMED:
            rows = [["true \\ predicted", *names]]
            rows += [[name, *map(str, row)] for name, row in zip(names, self.matrix.tolist(), strict=True)]
            files += [directory / "confusion.csv", directory / "confusion.png"]
            files[-2].write_text(csv_text(rows), encoding="utf-8", newline="")
            shares = self.matrix / self.matrix.sum(1, keepdim=True).clamp(min=1)
            picture = Image.fromarray((255 - 255 * shares).byte().numpy())
            picture.resize((classes * max(1, 600 // classes),) * 2, Image.Resampling.NEAREST).save(files[-1])
        return tuple(files)

    def _grid(self, names: Sequence[str]) -> Image.Image:
        columns = 4
        rows = -(-len(self.worst) // columns)
        grid = Image.new("RGB", (columns * SIDE, rows * (SIDE + MARGIN)), "white")
        for number, (_, label, predicted, image) in enumerate(self.worst):
            left, top = number % columns * SIDE, number // columns * (SIDE + MARGIN)
            low, high = image.min(), image.max()
            pixels = ((image - low) / (high - low).clamp(min=1e-6) * 255).byte().permute(1, 2, 0).numpy()
            shown = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
            grid.paste(shown.resize((SIDE, SIDE)), (left, top))
            text = f"{names[label][:9]}, not {names[predicted][:9]}".encode("ascii", "replace").decode()
            ImageDraw.Draw(grid).text((left + 2, top + SIDE), text, fill="black")
        return grid


class Classification(Task):
    """Cross entropy with the recipe's label smoothing, as in figure 4; labels (B,), logits (B, classes)."""

    def build_network(self, execution: BlockExecution = "branches") -> nn.Module:
        """MobileOne with its classifier head, or the network by name, expanded if the cell says so."""
        spec, data = self.spec, self.spec.data
        if not spec.backbone:
            return build_model(spec.model, data.num_classes, execution)
        shape = 1, data.channels, data.image_size, data.image_size
        network = classifier_by_name("backbone", spec.backbone, data.num_classes, shape, spec.recipe.sizes)
        method, k = spec.expand.method, spec.expand.k
        if method == "none":
            return network
        network = expand(network, k, method=method, execution=execution, inputs=(torch.zeros(shape),))
        is_expanded = any(isinstance(part, ExpandedConv2d) for part in network.modules())
        require(is_expanded, "expand", method, f"none: it takes no convolution of {spec.backbone}")
        return network

    def deployed_cost(self, network: nn.Module, images: Tensor) -> dict[str, float]:
        """Cost of a network by name, and whether class and state dict are as before expand."""
        if not self.spec.backbone:
            return {}
        plain = Classification(replace(self.spec, expand=Expansion())).build_network()
        shapes = [{name: value.shape for name, value in item.state_dict().items()} for item in (plain, network)]
        is_same = type(plain) is type(network) and shapes[0] == shapes[1]
        return {**cost_of(network, images), "deployed/as_plain": float(is_same)}

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean cross entropy, 0-d."""
        return self._cross_entropy(outputs, targets, "mean")

    def image_losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Cross entropy of every image, (B,)."""
        return self._cross_entropy(outputs, targets, "none")

    def metrics(self) -> MetricCollection:
        """top1, and top5 if there are more than 5 classes."""
        classes = self.spec.data.num_classes
        counts = (1, 5) if classes > 5 else (1,)
        accuracies = {f"top{k}": MulticlassAccuracy(classes, k, "micro", validate_args=False) for k in counts}
        return MetricCollection(accuracies, compute_groups=False)  # type: ignore[arg-type]

    def mistakes(self) -> Mistakes:
        """Confusions and the images with the largest losses."""
        return Mistakes(self.spec.data.num_classes)

    def _cross_entropy(self, logits: Tensor, labels: Tensor, reduction: str) -> Tensor:
        smoothing = self.spec.recipe.label_smoothing
        return F.cross_entropy(at_least_float32(logits), labels, label_smoothing=smoothing, reduction=reduction)
