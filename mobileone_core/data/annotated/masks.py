"""Images with masks: one class per pixel, 255 for pixels that count for nothing."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mobileone_core.data.annotated.boxes import decode_sized
from mobileone_core.data.annotated.layouts import Source
from mobileone_core.errors import InputError, require

IGNORED = 255  # label of pixels that count for nothing


@dataclass(frozen=True)
class MaskFiles:
    """The images of one split. With from_one, files count classes from 1, and their 0 is ignored."""

    pairs: Sequence[Source]
    num_classes: int
    from_one: bool = False

    def __len__(self) -> int:
        return len(self.pairs)

    def subset(self, indices: NDArray[np.int64]) -> "MaskFiles":
        """The images at indices, in that order."""
        return replace(self, pairs=[self.pairs[index] for index in indices])

    def read(self, index: int) -> tuple[Image.Image, dict[str, NDArray[np.uint8]]]:
        """Read an image and its mask, uint8 (H, W). Raises InputError.

        An EXIF orientation turns the image, unless its size is the mask's only as it lies.
        """
        path, file = self.pairs[index]
        mask = read_mask(file)
        image = decode_sized(path, mask.shape[::-1])
        allowed = f"the size of {path}, {image.width} x {image.height}"
        require(image.size == mask.shape[::-1], f"{file}: size", " x ".join(map(str, mask.shape[::-1])), allowed)
        mask = mask - np.uint8(self.from_one)  # 0 becomes 255
        wrong = mask[(mask >= self.num_classes) & (mask != IGNORED)]
        if len(wrong):
            first = int(self.from_one)
            allowed = f"{first} to {self.num_classes - 1 + first}, or {0 if first else IGNORED} for what is ignored"
            raise InputError.of(f"{file}: pixel", int(wrong[0]) + first, allowed)
        return image, {"masks": mask}


def read_mask(file: Path) -> NDArray[np.uint8]:
    """Read a mask, uint8 (H, W): a grey or palette image of class numbers, or SBD's MATLAB file. Raises InputError."""
    try:
        if file.suffix == ".mat":
            from scipy.io import loadmat  # takes a second

            return np.asarray(loadmat(file)["GTcls"]["Segmentation"][0, 0], np.uint8)
        with Image.open(file) as image:
            mode, mask = image.mode, np.array(image)
    except Exception as error:  # decoders raise nearly every exception type
        raise InputError(f"{file} is not a readable mask ({' '.join(str(error).split())})") from error
    require(mode in ("L", "P"), f"{file}: mode", mode, "L or P: class numbers, not colours")
    return mask
