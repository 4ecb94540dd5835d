"""Metrics of detection and segmentation, over all images of a split."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics.classification import MulticlassJaccardIndex
from torchmetrics.detection import MeanAveragePrecision

from mobileone_core.data.annotated.masks import IGNORED
from mobileone_core.errors import require

SIZES = ("map_small", "map_medium", "map_large")
PRECISIONS = {"map": "map", "map50": "map_50", "map75": "map_75", **dict(zip(SIZES, SIZES, strict=True))}


class BoxPrecision(MeanAveragePrecision):
    """COCO's average precision as map (of IoU 0.50 to 0.95), map50, map75, map_small, map_medium and map_large.

    Updated with two lists of dicts, one per image: boxes, float (n, 4) xyxy, labels, int64 (n,), and scores, float
    (n,); and the targets' boxes and labels, with COCO's iscrowd and area if they are known. scale (2,), width and
    height of the original image as multiples of the batch's, brings boxes to the pixels in which COCO measures what is
    small: below 32 x 32; large is above 96 x 96. Sizes without any object have no metric.
    """

    def __init__(self, data: str) -> None:
        # COCO's thresholds in float64: torchmetrics' own pass through float32, which moves the result by up to 4e-4.
        thresholds = np.linspace(0.5, 0.95, 10).tolist(), np.linspace(0, 1, 101).tolist()
        super().__init__("xyxy", "bbox", *thresholds, backend="faster_coco_eval")
        self.data, self.warn_on_many_detections = data, False

    def update(self, preds: list[dict[str, Tensor]], target: list[dict[str, Tensor]]) -> None:
        """Add images."""
        scales = [item.get("scale", torch.ones(2)).to(item["boxes"]).repeat(2) for item in target]
        pairs = zip(preds, target, scales, strict=True)
        scaled = [[{**item, "boxes": item["boxes"] * scale} for item in pair] for *pair, scale in pairs]
        super().update([pred for pred, _ in scaled], [item for _, item in scaled])

    def compute(self) -> dict[str, Tensor]:
        """The precisions. Raises InputError if no image has an object."""
        computed: dict[str, Any] = super().compute()
        require(bool(computed["map"] >= 0), "data", self.data, "a set with an object in one of its images at least")
        return {name: computed[key] for name, key in PRECISIONS.items() if computed[key] >= 0}


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
