"""Segmentation: DeepLabV3 (Chen et al., 2017) of torchvision's parts, cross entropy, mean intersection over union."""

from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassJaccardIndex
from torchvision.models.segmentation.deeplabv3 import ASPP
from torchvision.models.segmentation.fcn import FCNHead

from mobileone_core.data.annotated.files import IGNORED
from mobileone_core.errors import require
from mobileone_core.model.folded.statistics import at_least_float32
from mobileone_core.model.network import ExportNetwork
from mobileone_core.model.spec import BlockExecution
from mobileone_core.training.head import HeadSpec
from mobileone_core.training.tasks.backbones import Backbone, build_backbone, map_shapes
from mobileone_core.training.tasks.dense import DenseTask, folded


class SegmentationHead(nn.Module):
    """ASPP and the last layers of DeepLabV3, and the auxiliary FCN head if its loss has a weight."""

    def __init__(self, width: int, aux_width: int, spec: HeadSpec, num_classes: int) -> None:
        super().__init__()
        self.aspp = ASPP(width, spec.rates, spec.width)
        self.aspp.project[3].p = spec.dropout
        layers = nn.Conv2d(spec.width, spec.width, 3, padding=1, bias=False), nn.BatchNorm2d(spec.width), nn.ReLU()
        self.classify = nn.Sequential(*layers, nn.Conv2d(spec.width, num_classes, 1))
        self.aux = FCNHead(aux_width, num_classes) if spec.aux_weight else None

    def forward(self, features: Tensor, aux_features: Tensor) -> list[Tensor]:
        """The last map and the one before it to logits, and in training to those of the auxiliary head."""
        logits = [self.classify(self.aspp(features))]
        return [*logits, self.aux(aux_features)] if self.aux is not None and self.training else logits


class DeepLabV3(ExportNetwork):
    """A segmenter: images (N, C, H, W) to logits (N, classes, H, W); in training with an auxiliary head two of them."""

    def __init__(self, backbone: Backbone, spec: HeadSpec, num_classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        *_, (_, aux_width), (_, width) = map_shapes(backbone)
        self.head = SegmentationHead(width, aux_width, spec, num_classes)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Compute logits at the images' size."""
        allowed = "2 or more, for ASPP normalizes one pooled pixel per image"
        require(len(images) > 1 or not self.training, "batch_size", len(images), allowed)
        *_, aux_features, features = self.backbone.forward_features(images)
        size = images.shape[2:]
        logits = [F.interpolate(item, size, mode="bilinear") for item in self.head(features, aux_features)]
        return logits[0] if len(logits) == 1 else tuple(logits)


class MeanIoU(MulticlassJaccardIndex):
    """Mean over classes of intersection over union, of the confusion matrix of all pixels of all images.

    Updated with logits (B, classes, S, S) or labels (B, S, S), and masks (B, S, S) in which 255 is ignored. A class
    that is neither in a mask nor predicted does not count.
    """

    def __init__(self, num_classes: int, data: str) -> None:
        super().__init__(num_classes, ignore_index=IGNORED, validate_args=False)
        self.data = data

    def compute(self) -> Tensor:
        """The mean. Raises InputError if every pixel is ignored."""
        require(bool(self.confmat.sum() > 0), "data", self.data, "a set with a pixel that is not ignored")
        return super().compute()


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
