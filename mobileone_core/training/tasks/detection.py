"""Detection: SSDLite (Sandler et al., MobileNetV2, CVPR 2018, section 6.2) of torchvision's parts, on any backbone.

Its loss, its form for exports and timing, and COCO's average precision.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics import MetricCollection
from torchmetrics.detection import MeanAveragePrecision
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.ssd import SSD
from torchvision.models.detection.ssdlite import SSDLiteHead, _extra_block, _normal_init
from torchvision.ops import Conv2dNormActivation, box_iou

from mobileone_core.errors import require
from mobileone_core.model.folded.statistics import at_least_float32
from mobileone_core.model.network import ExportNetwork
from mobileone_core.model.spec import BlockExecution
from mobileone_core.training.cell import CellSpec
from mobileone_core.training.head import HeadSpec
from mobileone_core.training.tasks.backbones import Backbone, build_backbone, map_shapes
from mobileone_core.training.tasks.dense import DenseTask, folded

Boxes = list[dict[str, Tensor]]  # per image: boxes (n, 4), float32 xyxy in pixels, and labels (n,), 1 to classes
RATIOS = [2, 3]  # of the default boxes' sides; a pooled map has the first alone
NORM = nn.BatchNorm2d
OFFSETS = (10.0, 5.0)  # torchvision's BoxCoder divides offsets of centres and of logarithms of sides by these
LARGEST = math.log(1000 / 16)  # logarithm of a box's side as a multiple of its anchor's, at most
SIZES = ("map_small", "map_medium", "map_large")
PRECISIONS = {"map": "map", "map50": "map_50", "map75": "map_75", **dict(zip(SIZES, SIZES, strict=True))}


class DetectionHead(nn.Module):
    """Projections of the backbone's maps, additional maps, and torchvision's SSDLiteHead on all of them."""

    def __init__(self, widths: Sequence[int], spec: HeadSpec, anchors: Sequence[int], classes: int) -> None:
        super().__init__()
        fits = len(spec.projections) in (0, len(widths))
        require(fits, "projections", spec.projections, f"one per map of the backbone, which are {len(widths)}, or none")
        projected = spec.projections or tuple(widths)
        convolution = partial(Conv2dNormActivation, kernel_size=1, norm_layer=NORM, activation_layer=nn.ReLU6)
        project = convolution if spec.projections else nn.Identity  # which ignores its arguments
        self.projections = nn.ModuleList(map(project, widths, projected))
        blocks = [_extra_block(*pair, NORM) for pair in zip((projected[-1], *spec.extras), spec.extras, strict=False)]
        if spec.pooled:
            before = (projected[-1], *spec.extras)[-2]
            blocks[-1] = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(before, spec.extras[-1], 1), nn.ReLU6())
        self.extra = nn.ModuleList(blocks)
        for module in (self.projections, self.extra):
            _normal_init(module)
        self.predict = SSDLiteHead([*projected, *spec.extras], list(anchors), classes, NORM)

    def forward(self, maps: list[Tensor]) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Backbone maps to all maps, and to cls_logits (N, A, classes) and bbox_regression (N, A, 4)."""
        maps = [project(item) for project, item in zip(self.projections, maps, strict=True)]
        for block in self.extra:
            maps.append(block(maps[-1]))
        return maps, self.predict(maps)


class SSDLite(nn.Module):
    """A detector: images (N, C, H, W) to cls_logits (N, A, classes + 1), bbox_regression (N, A, 4) and anchors (A, 4).

    A counts the default boxes of all maps, which are pixels xyxy and depend on the image's size alone.
    """

    def __init__(self, backbone: Backbone, spec: HeadSpec, num_classes: int) -> None:
        super().__init__()
        shapes = map_shapes(backbone)
        last = {stride: index for index, (stride, _) in enumerate(shapes) if stride >= spec.stride}
        require(bool(last), "stride", spec.stride, f"at most the backbone's largest, {shapes[-1][0]}")
        self.read = tuple(last.values())
        count = len(last) + len(spec.extras)
        first, largest, beyond = spec.scales
        scales = [*torch.linspace(first, largest, count, dtype=torch.float64, device="cpu").tolist(), beyond]
        ratios = [RATIOS] * (count - spec.pooled) + [RATIOS[:1]] * spec.pooled
        self.backbone, self.boxes = backbone, DefaultBoxGenerator(ratios, scales=scales)
        widths = [shapes[index][1] for index in self.read]
        self.head = DetectionHead(widths, spec, self.boxes.num_anchors_per_location(), num_classes + 1)

    def maps(self, images: Tensor) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Images to the maps that are read, and the outputs without anchors."""
        features = self.backbone.forward_features(images)
        return cast("tuple[list[Tensor], dict[str, Tensor]]", self.head([features[index] for index in self.read]))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Compute raw outputs; detect decodes them."""
        maps, outputs = self.maps(images)
        anchors = self.boxes(ImageList(images, [tuple(images.shape[2:])]), maps)[0]
        return {**outputs, "anchors": anchors}


class DeployedDetector(ExportNetwork):
    """A detector before NMS: images (N, C, S, S) to boxes (N, A, 4) and scores (N, A, classes).

    Boxes are xyxy in pixels, clipped to the image, one per anchor; scores are probabilities without the background's.
    It is made of a folded copy of a cell's trained detector; anchors are those of S = image_size.
    """

    output_names = ("boxes", "scores")
    centres: Tensor  # of anchors, (A, 2), in pixels
    sides: Tensor
    limits: Tensor

    def __init__(self, network: SSDLite, cell: CellSpec, image_size: int) -> None:
        super().__init__()
        self.spec, self.num_classes, self.image_size = cell.model, cell.data.num_classes, image_size
        self.network, images = folded(network), torch.zeros(1, cell.data.channels, image_size, image_size)
        heads = self.network.head.predict  # in the order of execution, in which layers are compared with a file's
        heads.classification_head = heads._modules.pop("classification_head")
        with torch.no_grad():
            self.grids = [tuple(item.shape[2:]) for item in self.network.maps(images)[0]]
            starts, ends = self.network(images)["anchors"].split(2, 1)
        self.register_buffer("centres", (starts + ends) / 2)  # buffers, which float16 rounds as it does weights
        self.register_buffer("sides", ends - starts)
        self.register_buffer("limits", torch.tensor([1 / OFFSETS[0], 1 / OFFSETS[1], LARGEST]))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        _, outputs = self.network.maps(images)
        moved, grown = outputs["bbox_regression"].split(2, -1)
        shift, growth, largest = self.limits
        centres = self.centres + moved * shift * self.sides
        halves = torch.minimum(grown * growth, largest).exp() * self.sides / 2
        boxes = torch.cat([centres - halves, centres + halves], -1).clamp(0, self.image_size)
        return boxes, outputs["cls_logits"].softmax(-1)[..., 1:]

    def facts(self) -> dict[str, Any]:
        """Anchors and the decoding of boxes, as JSON."""
        pairs = [(side.clamp(0, 1) * self.image_size).tolist() for side in self.network.boxes._wh_pairs]
        maps = [
            {"rows": rows, "columns": columns, "sides": [[round(side, 3) for side in pair] for pair in sides]}
            for (rows, columns), sides in zip(self.grids, pairs, strict=True)
        ]
        order = "maps, rows, columns, sides (width, height in pixels); centres at (index + 0.5) / count of the image"
        return {
            "anchors": {"count": len(self.centres), "maps": maps, "order": order},
            "decoding": {
                "where": "inside",
                "centre": f"anchor's centre + offset / {OFFSETS[0]:g} x anchor's side",
                "side": f"anchor's side x exp(min(offset / {OFFSETS[1]:g}, {LARGEST:.6f}))",
                "clipped": [0, self.image_size],
            },
        }


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


class Detection(DenseTask):
    """SSDLite, with loss and detections as torchvision's SSD computes them.

    Targets are one dict per image: boxes (n, 4), float32 xyxy in pixels, and labels (n,) from 1 on.
    """

    def __init__(self, spec: CellSpec) -> None:
        super().__init__(spec)
        head, unused = spec.head, DefaultBoxGenerator([RATIOS])
        limits = head.score_threshold, head.nms_threshold, head.detections
        self.ssd = SSD(
            nn.Identity(), unused, (1, 1), 0, None, None, nn.Identity(), *limits, topk_candidates=head.detections,
            positive_fraction=1 / (1 + head.negatives),
        )  # fmt: skip

    def build_network(self, execution: BlockExecution = "branches") -> SSDLite:
        """The backbone with SSDLite's head."""
        return SSDLite(build_backbone(self.spec, execution), self.spec.head, self.spec.data.num_classes)

    def loss(self, outputs: dict[str, Tensor], targets: Boxes) -> Tensor:
        """Localization and classification loss per matched default box, 0-d. Raises InputError for a flat box."""
        raw = {name: at_least_float32(value) for name, value in outputs.items()}
        anchors = raw.pop("anchors")
        for target in targets:
            has_area = bool((target["boxes"][:, 2:] > target["boxes"][:, :2]).all())
            require(has_area, "boxes", target["boxes"].tolist(), "boxes with x2 > x1 and y2 > y1")
        matched = [self._matched(target["boxes"], anchors) for target in targets]
        losses = self.ssd.compute_loss(targets, raw, [anchors] * len(targets), matched)
        return torch.stack([*losses.values()]).sum()

    @torch.no_grad()
    def predictions(self, outputs: dict[str, Tensor], images: Tensor) -> Boxes:
        """Boxes (n, 4) in the images' pixels, labels and scores (n,) per image, best first."""
        raw = {name: at_least_float32(value) for name, value in outputs.items()}
        count, size = len(raw["cls_logits"]), tuple(images.shape[2:])
        return cast("Boxes", self.ssd.postprocess_detections(raw, [raw["anchors"]] * count, [size] * count))

    def exportable(self, network: nn.Module, image_size: int) -> DeployedDetector:
        """A folded copy, as DeployedDetector describes it."""
        return DeployedDetector(cast("SSDLite", network), self.spec, image_size)

    def metrics(self) -> MetricCollection:
        """COCO's average precisions."""
        return MetricCollection({"map": BoxPrecision(self.spec.data.name)})

    def tensors(self, outputs: dict[str, Tensor]) -> Sequence[Tensor]:
        """Class logits and box regressions."""
        return [outputs["cls_logits"], outputs["bbox_regression"]]

    def _matched(self, boxes: Tensor, anchors: Tensor) -> Tensor:
        """Index of the box that each anchor (A, 4) predicts, -1 for background: (A,)."""
        if not len(boxes):
            return torch.full((len(anchors),), -1, dtype=torch.int64, device=anchors.device)
        return cast("Tensor", self.ssd.proposal_matcher(box_iou(boxes, anchors)))
