"""Detection: boxes and labels per image, the loss of SSD, COCO's average precision."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn
from torchmetrics import MetricCollection

from mobileone_core.data.annotated.loaders import open_annotated
from mobileone_core.data.loaders import LoaderOptions, SplitLoaders
from mobileone_core.model.spec import BlockExecution
from mobileone_core.training.cell import CellSpec
from mobileone_core.training.tasks.backbones import build_backbone, cost_of
from mobileone_core.training.tasks.metrics import detection_metrics
from mobileone_core.training.tasks.ssdlite import BoxCodec, Boxes, SSDLite
from mobileone_core.training.tasks.task import Task


class Detection(Task):
    """SSDLite; targets are one dict per image: boxes (n, 4), float32 xyxy in pixels, and labels (n,) from 1 on."""

    def __init__(self, spec: CellSpec) -> None:
        super().__init__(spec)
        self.codec = BoxCodec(spec.head)

    def open_data(self, data_root: Path | None, options: LoaderOptions) -> SplitLoaders:
        """Open images with boxes."""
        return open_annotated(self.spec.data, "detection", data_root, self.spec.seed, options)

    def build_network(self, execution: BlockExecution = "branches") -> SSDLite:
        """The backbone with SSDLite's head."""
        return SSDLite(build_backbone(self.spec, execution), self.spec.head, self.spec.data.num_classes)

    def loss(self, outputs: dict[str, Tensor], targets: Boxes) -> Tensor:
        """SSD's loss, 0-d."""
        return self.codec.loss(outputs, targets)

    def deployed_cost(self, network: nn.Module, images: Tensor) -> dict[str, float]:
        """Parameters and multiply-adds of the whole deployed network."""
        return cost_of(network, images)

    def metrics(self) -> MetricCollection:
        """COCO's average precisions."""
        return detection_metrics(self.spec.data.name)

    def predictions(self, outputs: dict[str, Tensor], images: Tensor) -> Boxes:
        """Boxes, labels and scores per image."""
        return self.codec.detect(outputs, (images.shape[2], images.shape[3]))

    def tensors(self, outputs: dict[str, Tensor]) -> Sequence[Tensor]:
        """Class logits and box regressions."""
        return [outputs["cls_logits"], outputs["bbox_regression"]]
