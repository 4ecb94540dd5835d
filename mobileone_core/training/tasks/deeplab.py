"""DeepLabV3 (Chen et al., 2017) on any backbone, of torchvision's parts."""

from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.segmentation.deeplabv3 import ASPP
from torchvision.models.segmentation.fcn import FCNHead

from mobileone_core.errors import require
from mobileone_core.model.network import ExportNetwork
from mobileone_core.training.head import HeadSpec
from mobileone_core.training.tasks.backbones import Backbone, map_shapes


class SegmentationHead(nn.Module):
    """ASPP and the last layers of DeepLabV3, and the auxiliary FCN head if its loss has a weight."""

    def __init__(self, width: int, aux_width: int, spec: HeadSpec, num_classes: int) -> None:
        super().__init__()
        self.aspp = ASPP(width, spec.rates, spec.width)
        self.aspp.project[3].p = spec.dropout
        self.classify = nn.Sequential(
            nn.Conv2d(spec.width, spec.width, 3, padding=1, bias=False),
            nn.BatchNorm2d(spec.width),
            nn.ReLU(),
            nn.Conv2d(spec.width, num_classes, 1),
        )
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
