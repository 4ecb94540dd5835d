"""Classification: one label per image, cross entropy, top-1 and top-5 accuracy."""

from torch import Tensor
from torch.nn import functional as F
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from mobileone_core.model.folded.statistics import at_least_float32
from mobileone_core.model.network import MobileOne, build_model
from mobileone_core.model.spec import BlockExecution
from mobileone_core.training.mistakes import Mistakes
from mobileone_core.training.tasks.task import Task


class Classification(Task):
    """Cross entropy with the recipe's label smoothing, as in figure 4; labels (B,), logits (B, classes)."""

    def build_network(self, execution: BlockExecution = "branches") -> MobileOne:
        """MobileOne with its classifier head."""
        return build_model(self.spec.model, self.spec.data.num_classes, execution)

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
