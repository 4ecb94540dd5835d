"""The head of a detector or segmenter, as data."""

from dataclasses import dataclass
from typing import Any

from mobileone_core.errors import require
from mobileone_core.fields import FRACTION, NOT_NEGATIVE, POSITIVE, check_options, option
from mobileone_core.training.recipe import split_fitted


def _widths(field: str, value: Any) -> None:
    fits = isinstance(value, tuple) and all(isinstance(item, int) and item > 0 for item in value)
    require(fits, field, value, "a tuple of integers of 1 or more")


def _scales(field: str, value: Any) -> None:
    fits = isinstance(value, tuple) and all(isinstance(item, int | float) and item > 0 for item in value)
    require(fits and len(value) == 3 and list(value) == sorted(value), field, value, "three rising numbers above 0")


@dataclass(frozen=True)
class HeadSpec:
    """A head of SSDLite or DeepLabV3; the defaults are torchvision's. Raises InputError.

    SSDLite reads stride to extras, DeepLabV3 the rest.

    Example:
        >>> HeadSpec(extras=(128, 64)).nms_threshold
        0.55
    """

    stride: int = option(16, "SSDLite: smallest stride of the backbone's maps that are read.", POSITIVE)
    projections: tuple[int, ...] = option((), "SSDLite: channels of 1x1 projections of the backbone's maps.", _widths)
    extras: tuple[int, ...] = option((512, 256, 256, 128), "SSDLite: channels of the additional maps.", _widths)
    pooled: bool = option(False, "SSDLite: the last additional map is the one before it, averaged to one pixel.")
    scales: tuple[float, ...] = option(
        (0.2, 0.95, 1.0),
        "SSDLite: box sizes of the first and the last map, as shares of the image, and the size that follows.",
        _scales,
    )
    negatives: float = option(3.0, "SSDLite: boxes of background per box of an object in the loss.", POSITIVE)
    score_threshold: float = option(0.001, "SSDLite: smallest score of a detection.", FRACTION)
    nms_threshold: float = option(0.55, "SSDLite: overlap from which on one of two detections goes.", FRACTION)
    detections: int = option(300, "SSDLite: detections per class before NMS, and per image after it.", POSITIVE)
    width: int = option(256, "DeepLabV3: channels of ASPP.", POSITIVE)
    rates: tuple[int, ...] = option((12, 24, 36), "DeepLabV3: dilations of ASPP.", _widths)
    dropout: float = option(0.5, "DeepLabV3: share of ASPP's channels that a step drops.", FRACTION)
    aux_weight: float = option(0.0, "DeepLabV3: weight of an auxiliary head's loss; 0 builds none.", NOT_NEGATIVE)

    def __post_init__(self) -> None:
        check_options(self)
        require(not self.pooled or bool(self.extras), "pooled", self.pooled, "False without extras")


HEADS: dict[str, tuple[HeadSpec, int]] = {  # by recipe: the head, and the backbone's output stride
    "scenes-ssdlite": (HeadSpec(stride=4, extras=(128, 128), scales=(0.12, 0.55, 0.8)), 32),
    "scenes-deeplab": (HeadSpec(width=64, rates=(2, 4, 6), dropout=0.1), 4),
    "mobilevit-ssdlite-coco": (
        HeadSpec(
            projections=(512, 256), extras=(256, 128, 128, 64), pooled=True, score_threshold=0.01, nms_threshold=0.5,
            detections=200, scales=(0.1, 0.1 + 0.95 * 5 / 6, 1.05),  # seven even steps
        ),
        32,
    ),
    "mobilevit-deeplab-voc": (HeadSpec(width=512, dropout=0.1, aux_weight=0.4), 8),
    "cvnets-deeplab-ade20k": (HeadSpec(width=512, dropout=0.1, aux_weight=0.4), 8),
}  # fmt: skip


def head_preset(recipe: str) -> tuple[HeadSpec, int]:
    """The head of a recipe's configuration, fitted or not, and its output stride; the defaults without one."""
    return HEADS.get(split_fitted(recipe)[0], (HeadSpec(), 32))
