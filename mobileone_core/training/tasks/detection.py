"""Detection: boxes and labels per image, the loss of SSD, COCO's average precision."""

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn
from torchmetrics import MetricCollection

from mobileone_core.model.spec import BlockExecution
from mobileone_core.training.cell import CellSpec
from mobileone_core.training.tasks.backbones import build_backbone
from mobileone_core.training.tasks.dense import DenseTask
from mobileone_core.training.tasks.deployed import DeployedDetector
from mobileone_core.training.tasks.metrics import BoxPrecision
from mobileone_core.training.tasks.ssdlite import BoxCodec, Boxes, SSDLite


class Detection(DenseTask):
    """SSDLite; targets are one dict per image: boxes (n, 4), float32 xyxy in pixels, and labels (n,) from 1 on."""

    def __init__(self, spec: CellSpec) -> None:
        super().__init__(spec)
        self.codec = BoxCodec(spec.head)

    def build_network(self, execution: BlockExecution = "branches") -> SSDLite:
        """The backbone with SSDLite's head."""
        return SSDLite(build_backbone(self.spec, execution), self.spec.head, self.spec.data.num_classes)

    def loss(self, outputs: dict[str, Tensor], targets: Boxes) -> Tensor:
        """SSD's loss, 0-d."""
        return self.codec.loss(outputs, targets)

    def exportable(self, network: nn.Module, image_size: int) -> DeployedDetector:
        """A folded copy, as DeployedDetector describes it."""
        return DeployedDetector(cast("SSDLite", network), self.spec, image_size)

    def metrics(self) -> MetricCollection:
        """COCO's average precisions."""
        return MetricCollection({"map": BoxPrecision(self.spec.data.name)})

    def predictions(self, outputs: dict[str, Tensor], images: Tensor) -> Boxes:
        """Boxes, labels and scores per image."""
        return self.codec.detect(outputs, (images.shape[2], images.shape[3]))

    def tensors(self, outputs: dict[str, Tensor]) -> Sequence[Tensor]:
        """Class logits and box regressions."""
        return [outputs["cls_logits"], outputs["bbox_regression"]]
