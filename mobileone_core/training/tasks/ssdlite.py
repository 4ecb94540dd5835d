"""SSDLite (Sandler et al., MobileNetV2, CVPR 2018, section 6.2) on any backbone, of torchvision's parts."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.ssd import SSD
from torchvision.models.detection.ssdlite import SSDLiteHead, _extra_block, _normal_init
from torchvision.ops import Conv2dNormActivation, box_iou

from mobileone_core.errors import require
from mobileone_core.model.folded.statistics import at_least_float32
from mobileone_core.training.head import HeadSpec
from mobileone_core.training.tasks.backbones import Backbone, map_shapes

Boxes = list[dict[str, Tensor]]  # per image: boxes (n, 4), float32 xyxy in pixels, and labels (n,), 1 to classes
RATIOS = [2, 3]  # of the default boxes' sides; a pooled map has the first alone
NORM = nn.BatchNorm2d


class DetectionHead(nn.Module):
    """Projections of the backbone's maps, additional maps, and torchvision's SSDLiteHead on all of them."""

    def __init__(self, widths: Sequence[int], spec: HeadSpec, anchors: Sequence[int], classes: int) -> None:
        super().__init__()
        fits = len(spec.projections) in (0, len(widths))
        require(fits, "projections", spec.projections, f"one per map of the backbone, which are {len(widths)}, or none")
        projected = spec.projections or tuple(widths)
        self.projections = nn.ModuleList(
            Conv2dNormActivation(*pair, 1, norm_layer=NORM, activation_layer=nn.ReLU6)
            if spec.projections
            else nn.Identity()
            for pair in zip(widths, projected, strict=True)
        )
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
        maps: tuple[list[Tensor], dict[str, Tensor]] = self.head([features[index] for index in self.read])
        return maps

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Compute raw outputs; detect decodes them."""
        maps, outputs = self.maps(images)
        anchors = self.boxes(ImageList(images, [tuple(images.shape[2:])]), maps)[0]
        return {**outputs, "anchors": anchors}


class BoxCodec:
    """Loss and detections of raw outputs, as torchvision's SSD computes them.

    Raises InputError if a target's box has no area.
    """

    def __init__(self, spec: HeadSpec) -> None:
        limits = spec.score_threshold, spec.nms_threshold, spec.detections
        unused = DefaultBoxGenerator([RATIOS])
        self.ssd = SSD(
            nn.Identity(), unused, (1, 1), 0, None, None, nn.Identity(), *limits, topk_candidates=spec.detections,
            positive_fraction=1 / (1 + spec.negatives),
        )  # fmt: skip

    def loss(self, outputs: dict[str, Tensor], targets: Boxes) -> Tensor:
        """Localization and classification loss per matched default box, 0-d."""
        raw = {name: at_least_float32(value) for name, value in outputs.items()}
        anchors = raw.pop("anchors")
        for target in targets:
            has_area = bool((target["boxes"][:, 2:] > target["boxes"][:, :2]).all())
            require(has_area, "boxes", target["boxes"].tolist(), "boxes with x2 > x1 and y2 > y1")
        matched = [self._matched(target["boxes"], anchors) for target in targets]
        losses = self.ssd.compute_loss(targets, raw, [anchors] * len(targets), matched)
        return torch.stack([*losses.values()]).sum()

    @torch.no_grad()
    def detect(self, outputs: dict[str, Tensor], image_size: tuple[int, int]) -> Boxes:
        """Boxes (n, 4) in pixels of images (rows, columns), labels and scores (n,) per image, best first."""
        raw = {name: at_least_float32(value) for name, value in outputs.items()}
        count = len(raw["cls_logits"])
        detections: Boxes = self.ssd.postprocess_detections(raw, [raw["anchors"]] * count, [image_size] * count)
        return detections

    def _matched(self, boxes: Tensor, anchors: Tensor) -> Tensor:
        """Index of the box that each anchor (A, 4) predicts, -1 for background: (A,)."""
        if not len(boxes):
            return torch.full((len(anchors),), -1, dtype=torch.int64, device=anchors.device)
        matched: Tensor = self.ssd.proposal_matcher(box_iou(boxes, anchors))
        return matched
