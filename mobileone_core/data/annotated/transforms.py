"""Augmentation of an image with its boxes or mask, by torchvision.transforms.v2."""

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode, v2

from mobileone_core.data.annotated.boxes import Arrays
from mobileone_core.data.annotated.masks import IGNORED
from mobileone_core.data.spec import IMAGENET_MEAN

FILL = [round(255 * value) for value in IMAGENET_MEAN]  # of what lies outside of the image
SCALES = (0.5, 2.0)  # of scale_crop_flip


@lru_cache(maxsize=8)
def annotated_steps(augmentation: str, image_size: int, interpolation: str = "bilinear") -> v2.Compose:
    """The steps of an augmentation to image_size x image_size.

    ssd and ssdlite are torchvision's training of SSD300 and SSDLite320 (Liu et al., 2016: photometric distortion,
    zooming out, a crop with a least overlap, mirroring). scale_crop_flip scales by 0.5 to 2 and crops; what lies
    outside of the image is ignored.
    """
    mode, size = InterpolationMode(interpolation), (image_size, image_size)
    resize = v2.Resize(size, interpolation=mode)
    zoomed = [v2.RandomPhotometricDistort(), v2.RandomZoomOut(fill=FILL)]
    cropped = [v2.RandomIoUCrop(), v2.RandomHorizontalFlip(), resize]
    fill = {tv_tensors.Image: FILL, tv_tensors.Mask: IGNORED}
    crop = v2.RandomCrop(size, pad_if_needed=True, fill=fill)
    steps = {
        "none": [resize],
        "ssd": [*zoomed, *cropped],
        "ssdlite": cropped,
        "scale_crop_flip": [v2.ScaleJitter(size, SCALES, interpolation=mode), crop, v2.RandomHorizontalFlip()],
    }
    return v2.Compose(steps[augmentation])


def transform_annotated(image: Image.Image, target: Arrays, steps: v2.Compose, *, training: bool) -> tuple[Tensor, Any]:
    """Transform an image with its mask or boxes: uint8 (3, S, S), and uint8 (S, S) or boxes in its pixels, as arrays.

    Training leaves crowds out, and boxes of less than a pixel. Otherwise iscrowd, area and scale, the original's width
    and height as multiples of S, go along with boxes.
    """
    picture = tv_tensors.Image(v2.functional.pil_to_tensor(image))
    if "masks" in target:
        pixels, mask = steps(picture, tv_tensors.Mask(target["masks"]))
        return pixels, mask.numpy()
    chosen = target["iscrowd"] == 0 if training else slice(None)
    boxes = tv_tensors.BoundingBoxes(target["boxes"][chosen], format="XYXY", canvas_size=image.size[::-1])
    pixels, changed = steps(picture, {"boxes": boxes, "labels": torch.from_numpy(target["labels"][chosen])})
    arrays = v2.SanitizeBoundingBoxes(min_size=1)(changed) if training else changed
    arrays = {name: value.numpy() for name, value in arrays.items()}
    if not training:
        arrays |= {name: target[name] for name in ("iscrowd", "area")}
        arrays["scale"] = np.array(image.size, np.float32) / pixels.shape[-1]
    return pixels, arrays
