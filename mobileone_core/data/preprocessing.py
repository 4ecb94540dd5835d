"""How evaluation turns a picture into a network's input, for evaluation, prediction and exports."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mobileone_core.data.spec import DATA_SETS, EVAL_CROP, DataSpec, resized_side

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor


@dataclass(frozen=True)
class Preprocessing:
    """Turns a picture into a network's input; called with a PIL image, it returns float32 (channels, S, S).

    The shorter side is resized to `resize` pixels and the centre of S x S pixels is cut out; without crop the whole
    picture is resized to S x S. Resizing is antialiased. Pixels in [0, 1] are then normalized by mean and std.

    Args:
        image_size: S, in pixels.
        channels: 3 for RGB in this order, 1 for grey.
        mean, std: per channel, of pixels in [0, 1].
        crop: S as a fraction of the resized shorter side; None for the whole picture.
        interpolation: bilinear or bicubic.
        upright: whether an EXIF orientation turns the picture first.
    """

    image_size: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop: float | None = EVAL_CROP
    interpolation: str = "bilinear"
    upright: bool = False

    @classmethod
    def of(cls, data: DataSpec) -> "Preprocessing":
        """The preprocessing with which a data set's validation and test images are read."""
        entry = DATA_SETS[data.name]
        crop = None if entry.in_memory or "classification" not in entry.tasks else EVAL_CROP
        return cls(data.image_size, data.channels, entry.mean, entry.std, crop, upright=entry.upright)

    @property
    def color(self) -> str:
        """Order of the channels: RGB or grey."""
        return "RGB" if self.channels == 3 else "grey"

    @property
    def resize(self) -> int | None:
        """Pixels of the resized shorter side; None if the whole picture becomes S x S."""
        return None if self.crop is None else resized_side(self.image_size, self.crop)

    def __call__(self, image: "Image") -> "Tensor":
        from torchvision.transforms.v2.functional import pil_to_tensor  # torch and torchvision take seconds

        from mobileone_core.data.augment import Normalize, resize
        from mobileone_core.data.images import as_rgb, turned
        from mobileone_core.data.stream import image_transform

        image = as_rgb(turned(image) if self.upright else image)
        image = image if self.channels == 3 else image.convert("L")
        if self.crop is None:
            pixels = resize(pil_to_tensor(image)[None].float(), self.image_size).round().clamp(0, 255)
        else:
            pixels = image_transform("none", self.image_size, 0.0, self.crop, self.interpolation)(image)[None]
        normalized: Tensor = Normalize(self.mean, self.std, pixels.device)(pixels)[0]
        return normalized
