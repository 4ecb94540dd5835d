"""Classification: one label per image, cross entropy, top-1 and top-5 accuracy."""

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from mobileone_core.errors import require
from mobileone_core.model.expand.block import ExpandedConv2d
from mobileone_core.model.expand.conversion import expand
from mobileone_core.model.folded.statistics import at_least_float32
from mobileone_core.model.network import build_model
from mobileone_core.model.spec import BlockExecution
from mobileone_core.training.mistakes import Mistakes
from mobileone_core.training.named_networks import Expansion, classifier_by_name
from mobileone_core.training.tasks.backbones import cost_of
from mobileone_core.training.tasks.task import Task


class Classification(Task):
    """Cross entropy with the recipe's label smoothing, as in figure 4; labels (B,), logits (B, classes)."""

    def build_network(self, execution: BlockExecution = "branches") -> nn.Module:
        """MobileOne with its classifier head, or the network by name, expanded if the cell says so."""
        spec, data = self.spec, self.spec.data
        if not spec.backbone:
            return build_model(spec.model, data.num_classes, execution)
        shape = 1, data.channels, data.image_size, data.image_size
        network = classifier_by_name("backbone", spec.backbone, data.num_classes, shape)
        method, k = spec.expand.method, spec.expand.k
        if method == "none":
            return network
        network = expand(network, k, method=method, execution=execution, inputs=(torch.zeros(shape),))
        is_expanded = any(isinstance(part, ExpandedConv2d) for part in network.modules())
        require(is_expanded, "expand", method, f"none: it takes no convolution of {spec.backbone}")
        return network

    def deployed_cost(self, network: nn.Module, images: Tensor) -> dict[str, float]:
        """Of a network by name: parameters, multiply-adds, and whether class and state dict are as before expand."""
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
        accuracies = {
            f"top{k}": MulticlassAccuracy(classes, k, "micro", validate_args=False)
            for k in (1, 5)
            if k == 1 or k < classes
        }
        return MetricCollection(accuracies, compute_groups=False)  # type: ignore[arg-type]

    def mistakes(self) -> Mistakes:
        """Confusions and the images with the largest losses."""
        return Mistakes(self.spec.data.num_classes)

    def _cross_entropy(self, logits: Tensor, labels: Tensor, reduction: str) -> Tensor:
        smoothing = self.spec.recipe.label_smoothing
        return F.cross_entropy(at_least_float32(logits), labels, label_smoothing=smoothing, reduction=reduction)
