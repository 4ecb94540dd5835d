"""Reads an image file of any mode as 8-bit RGB, or refuses it in one line."""

import contextlib
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from mobileone_core.errors import InputError


def decode(path: Path, *, upright: bool = True) -> Image.Image:
    """Read the first frame of an image file as RGB, 8 bits per channel.

    Grey levels of 16 bits count from 0 to 65535, of 12 bits in a TIFF to 4095, those of floats from 0 to 1.
    Transparency is dropped, as torchvision does: the colour below it stays. With upright, the image is turned as its
    EXIF orientation says; if that is broken, it stays as it lies. Raises InputError with the file's name for what is no
    image, cut short, or of another range.
    """
    try:
        with path.open("rb") as file, Image.open(file) as image:  # Pillow shears TIFFs that it opens by name
            image.load()
            return as_rgb(turned(image) if upright else image)
    except UnidentifiedImageError:
        reason = "no image of a known format" if path.stat().st_size else "0 bytes"
    except Exception as error:  # decoders raise nearly every exception type
        reason = (error.strerror if isinstance(error, OSError) else "") or str(error) or type(error).__name__
    raise InputError(f"{path} is not a readable image ({' '.join(reason.split())})")


def turned(image: Image.Image) -> Image.Image:
    """An image turned as its EXIF orientation says; if that is broken, as it lies."""
    with contextlib.suppress(Exception):  # Pillow raises nearly every exception type for broken EXIF
        if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
            lying, image = image, ImageOps.exif_transpose(image)
            image.format = lying.format
    return image


def as_rgb(image: Image.Image) -> Image.Image:
    """Convert an image of any mode to 8 bits per channel, as decode does. Raises InputError for levels out of range."""
    if image.mode == "RGB":  # converting would copy
        return image
    if image.mode != "F" and not image.mode.startswith("I"):
        # A palette with transparency warns unless it becomes RGBA first.
        return (image.convert("RGBA") if "transparency" in image.info else image).convert("RGB")
    tags, pixels = getattr(image, "tag_v2", {}), np.asarray(image)  # of a TIFF: 12 bits are read as they are
    bits = tags.get(ExifTags.Base.BitsPerSample, (16,)) if image.mode == "I;16" else (16,)
    top = 1 if image.mode == "F" else 2 ** bits[0] - 1
    if image.mode == "I" and image.format == "TIFF":
        raise InputError("32-bit or signed integers have no range of grey levels; save it with 8 or 16 bits")
    if not (pixels.min() >= 0 and pixels.max() <= top):
        raise InputError(f"grey levels from {pixels.min():g} to {pixels.max():g}; 0 to {top} are allowed for this mode")
    is_inverted = tags.get(ExifTags.Base.PhotometricInterpretation) == 0  # white is 0; of 8 bits Pillow inverts it
    levels = np.rint((top - pixels if is_inverted else pixels) * (255 / top))
    return Image.fromarray(levels.astype(np.uint8)).convert("RGB")
