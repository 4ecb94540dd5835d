"""Reads an image file of any mode as 8-bit RGB, or refuses it in one line."""

import contextlib
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from mobileone_core.errors import InputError


def decode(path: Path, *, upright: bool = True) -> Image.Image:
    """Read the first frame of an image file as RGB, 8 bits per channel.

    Grey levels of 16 bits count from 0 to 65535, those of floats from 0 to 1. Transparency is dropped, as torchvision
    does: the colour below it stays. With upright, the image is turned as its EXIF orientation says; if that is broken,
    it stays as it lies. Raises InputError with the file's name for what is no image, cut short, or of another range.
    """
    try:
        with Image.open(path) as image:
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
    top, pixels = 1 if image.mode == "F" else 65535, np.asarray(image)
    if image.mode == "I" and image.format == "TIFF":
        raise InputError("32-bit or signed integers have no range of grey levels; save it with 8 or 16 bits")
    if not (pixels.min() >= 0 and pixels.max() <= top):
        raise InputError(f"grey levels from {pixels.min():g} to {pixels.max():g}; 0 to {top} are allowed for this mode")
    return Image.fromarray(np.rint(pixels * (255 / top)).astype(np.uint8)).convert("RGB")
