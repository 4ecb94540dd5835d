"""Augmentation of batches in memory: every image has its own random draw, without a loop over images."""

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mobileone_core.data.epochs import generator_for

CROP_SCALE = (0.08, 1.0)  # fraction of the area; these two are torchvision's RandomResizedCrop
CROP_RATIO = (3 / 4, 4 / 3)  # width over height
CROP_ATTEMPTS = 10


class BatchAugment:
    """Augments images, uint8 (N, C, S, S); augmentation is one of those of classification.

    A crop takes S x S pixels of the image after zero padding by S // 8 on each side.
    """

    def __init__(self, images: Tensor, augmentation: str) -> None:
        self.images = images
        self.padding = images.shape[-1] // 8
        self.augmentation = augmentation
        self.windows = crop_windows(images, self.padding) if augmentation.startswith("crop") else None

    def draw(self, seed: int, epoch: int) -> dict[str, Tensor]:
        """Draw what the augmentation needs in one epoch: crop offsets (N, 2), boxes (N, 4) and flips (N,)."""
        count, crop, draws = len(self.images), generator_for(seed, "crop", epoch), dict[str, Tensor]()
        if self.windows is not None:
            draws["offsets"] = torch.randint(2 * self.padding + 1, (count, 2), generator=crop)
        if self.augmentation == "resized_crop_flip":
            draws["boxes"] = draw_boxes(count, self.images.shape[-1], crop)
        if self.augmentation.endswith("flip"):
            draws["flips"] = torch.randint(2, (count,), generator=generator_for(seed, "flip", epoch)).bool()
        return {name: draw.to(self.images.device) for name, draw in draws.items()}

    def __call__(self, indices: Tensor, draws: Mapping[str, Tensor]) -> Tensor:
        """Return the augmented images at indices (B,), uint8 (B, C, S, S)."""
        chosen = {name: draw[indices] for name, draw in draws.items()}
        if self.windows is None:
            batch = self.images[indices]
        else:
            top, left = chosen["offsets"].unbind(1)
            batch = self.windows[indices, :, top, left]
        if "boxes" in chosen:
            batch = resized_crop(batch.float(), chosen["boxes"]).round().to(torch.uint8)
        if "flips" in chosen:
            batch = flip(batch, chosen["flips"])
        return batch


def crop_windows(images: Tensor, padding: int) -> Tensor:
    """Return every crop of the padded images as a view, (N, C, 2 padding + 1, 2 padding + 1, S, S)."""
    size = images.shape[-1]
    return F.pad(images, (padding,) * 4).unfold(2, size, 1).unfold(3, size, 1)


def flip(images: Tensor, flips: Tensor) -> Tensor:
    """Mirror images (B, C, S, S) left to right where flips (B,) is true."""
    columns = torch.arange(images.shape[-1], device=images.device)
    columns = torch.where(flips[:, None], columns.flip(0), columns)
    return images.gather(3, columns[:, None, None].expand(images.shape))


def draw_boxes(count: int, size: int, generator: torch.Generator) -> Tensor:
    """Draw RandomResizedCrop's boxes (top, left, height, width), pixels of square images, int64 (count, 4).

    As in torchvision, the first of ten attempts that fits the image counts, else the whole image.
    """
    area, ratio, top, left = torch.rand(4, count, CROP_ATTEMPTS, generator=generator, dtype=torch.float64)
    area = size**2 * (CROP_SCALE[0] + (CROP_SCALE[1] - CROP_SCALE[0]) * area)
    low, high = (math.log(bound) for bound in CROP_RATIO)
    ratio = torch.exp(low + (high - low) * ratio)
    height, width = (area / ratio).sqrt().round(), (area * ratio).sqrt().round()
    fits = (height > 0) & (height <= size) & (width > 0) & (width <= size)
    top, left = (top * (size - height + 1)).floor(), (left * (size - width + 1)).floor()
    first = fits.int().argmax(1)
    boxes = torch.stack((top, left, height, width), dim=-1)[torch.arange(count), first]
    boxes[~fits.any(1)] = torch.tensor([0, 0, size, size], dtype=torch.float64)
    return boxes.long()


def resized_crop(images: Tensor, boxes: Tensor) -> Tensor:
    """Cut each image's box (top, left, height, width) out and resize it to the image's size, float (B, C, S, S).

    Bilinear without antialiasing, as two matrix products per image: several times faster than grid_sample on a CPU.
    """
    size = images.shape[-1]
    top, left, height, width = boxes.to(images.dtype).unbind(1)
    rows, columns = _bilinear_weights(top, height, size), _bilinear_weights(left, width, size)
    return rows[:, None] @ images @ columns[:, None].transpose(2, 3)


def _bilinear_weights(start: Tensor, length: Tensor, size: int) -> Tensor:
    """Return the weight of each input pixel in each output pixel along one axis, (B, size, size)."""
    pixels = torch.arange(size, dtype=start.dtype, device=start.device)
    inside = ((pixels + 0.5) * (length / size)[:, None] - 0.5).clamp(min=0)
    centres = start[:, None] + torch.minimum(inside, length[:, None] - 1)
    return (1 - (centres[:, :, None] - pixels).abs()).clamp(min=0)


def resize(images: Tensor, size: int) -> Tensor:
    """Resize float images (B, C, S, S) to (B, C, size, size), bilinear with antialiasing."""
    if images.shape[-1] == size:
        return images
    return F.interpolate(images, size=(size, size), mode="bilinear", antialias=True, align_corners=False)


class Normalize:
    """Normalizes uint8 images (B, C, S, S) to float32 by mean and std per channel, those of pixels in [0, 1]."""

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> None:
        spread = torch.tensor(std, dtype=torch.float64).view(-1, 1, 1)
        centre = torch.tensor(mean, dtype=torch.float64).view(-1, 1, 1)
        self.device = device
        self.scale = (1 / (255 * spread)).float().to(device)
        self.shift = (-centre / spread).float().to(device)

    def __call__(self, images: Tensor) -> Tensor:
        return images.float().mul_(self.scale).add_(self.shift)

    def into(self, out: Tensor, images: Tensor) -> Tensor:
        """Write the normalized images to out, on the CPU, image by image while each is still in the cache.

        Uses numpy, since torch's threads would wait for cores that are decoding.
        """
        scale, shift = self.scale.numpy(), self.shift.numpy()
        for target, image in zip(out.numpy(), images.numpy(), strict=True):
            np.multiply(image, scale, out=target)
            np.add(target, shift, out=target)
        return out
