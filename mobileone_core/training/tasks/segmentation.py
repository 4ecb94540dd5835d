"""Segmentation: a class per pixel, cross entropy, mean intersection over union."""

from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MetricCollection

from mobileone_core.data.annotated.masks import IGNORED
from mobileone_core.model.folded.statistics import at_least_float32
from mobileone_core.model.spec import BlockExecution
from mobileone_core.training.tasks.backbones import build_backbone
from mobileone_core.training.tasks.deeplab import DeepLabV3
from mobileone_core.training.tasks.dense import DenseTask
from mobileone_core.training.tasks.deployed import folded
from mobileone_core.training.tasks.metrics import MeanIoU


class Segmentation(DenseTask):
    """DeepLabV3; targets are masks (B, S, S), int64, in which 255 is ignored."""

    def build_network(self, execution: BlockExecution = "branches") -> DeepLabV3:
        """The backbone with DeepLabV3's head."""
        return DeepLabV3(build_backbone(self.spec, execution), self.spec.head, self.spec.data.num_classes)

    def loss(self, outputs: Tensor | tuple[Tensor, ...], targets: Tensor) -> Tensor:
        """Mean cross entropy over the pixels that count, plus the auxiliary head's times its weight; 0-d."""
        if isinstance(outputs, tuple):
            logits, auxiliary = outputs
            return self.loss(logits, targets) + self.spec.head.aux_weight * self.loss(auxiliary, targets)
        return self._losses(outputs, targets).sum() / (targets != IGNORED).sum().clamp(min=1)

    def image_losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean cross entropy over each image's pixels that count, (B,); 0 without any."""
        return self._losses(outputs, targets).sum((1, 2)) / (targets != IGNORED).sum((1, 2)).clamp(min=1)

    def exportable(self, network: nn.Module, image_size: int) -> DeepLabV3:  # noqa: ARG002
        """A folded copy; images of any size to logits per pixel (N, classes, H, W)."""
        exported: DeepLabV3 = folded(network)
        exported.spec, exported.num_classes, exported.head.aux = self.spec.model, self.spec.data.num_classes, None
        return exported

    def metrics(self) -> MetricCollection:
        """miou, of the confusion matrix of all images."""
        return MetricCollection({"miou": MeanIoU(self.spec.data.num_classes, self.spec.data.name)})

    def _losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        smoothing = self.spec.recipe.label_smoothing
        return F.cross_entropy(
            at_least_float32(logits), targets, ignore_index=IGNORED, label_smoothing=smoothing, reduction="none"
        )
