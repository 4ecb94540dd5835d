"""Images with boxes or masks in files: the splits of a data set, their augmentation and check."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode, v2

from mobileone_core.data.annotated.boxes import Arrays, BoxFiles, decode_sized, read_boxes
from mobileone_core.data.annotated.layouts import Source, find_annotated
from mobileone_core.data.catalog import class_names, resolve_data
from mobileone_core.data.check import FileFacts
from mobileone_core.data.seeding import derive_seed
from mobileone_core.data.spec import DATA_SETS, IMAGENET_MEAN, DataSpec, carved_images
from mobileone_core.errors import InputError, listed, reason_of, require

IGNORED = 255  # label of pixels that count for nothing
FILL = [round(255 * value) for value in IMAGENET_MEAN]  # of what lies outside of the image
SCALES = (0.5, 2.0)  # of scale_crop_flip
Track = Callable[[Iterable[int], str], Iterable[int]]  # shows the progress of a loop with a description


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
        mode, mask = _decode_mask(file)
    except Exception as error:  # decoders raise nearly every exception type, MemoryError for sizes of a broken header
        raise InputError(f"{file} is not a readable mask ({reason_of(error) or type(error).__name__})") from error
    require(mode in ("L", "P"), f"{file}: mode", mode, "L or P: class numbers, not colours")
    return mask


def _decode_mask(file: Path) -> tuple[str, NDArray[np.uint8]]:
    if file.suffix == ".mat":
        from scipy.io import loadmat  # takes a second

        return "L", np.asarray(loadmat(file)["GTcls"]["Segmentation"][0, 0], np.uint8)
    with Image.open(file) as image:
        return image.mode, np.array(image)


@lru_cache(maxsize=8)
def annotated_steps(image_size: int, augmentation: str, interpolation: str) -> v2.Compose:
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


def annotated_transform(
    image_size: int, strength: float, *, augmentation: str, interpolation: str, training: bool
) -> Callable[[Image.Image, Arrays], tuple[Tensor, Any]]:
    """Return the transform of an image with its mask or boxes; strength, AutoAugment's, is not used."""
    del strength
    return partial(_transform, steps=annotated_steps(image_size, augmentation, interpolation), training=training)


def _transform(image: Image.Image, target: Arrays, steps: v2.Compose, *, training: bool) -> tuple[Tensor, Any]:
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
    kept = {"boxes": boxes, "labels": torch.from_numpy(target["labels"][chosen])}
    pixels, changed = steps(picture, kept)
    arrays = v2.SanitizeBoundingBoxes(min_size=1)(changed) if training else changed
    arrays = {name: value.numpy() for name, value in arrays.items()}
    if not training:
        arrays |= {name: target[name] for name in ("iscrowd", "area")}
        arrays["scale"] = np.array(image.size, np.float32) / pixels.shape[-1]
    return pixels, arrays


def open_files(spec: DataSpec, root: Path, split: str, seed: int) -> BoxFiles | MaskFiles:
    """Open a split of a data set in files.

    With val and test both, they are validation and test. With one of them it is the test set, and val_fraction of the
    training images, chosen by the seed, is validation. Raises InputError if the data are missing or broken, or are not
    those of the spec's fingerprint.
    """
    is_test = split == "test"
    if spec.fingerprint and not is_test and resolve_data(spec.name, root).fingerprint != spec.fingerprint:
        raise InputError(f"data_root: {root} is not the data set that was planned: its files have changed")
    found = find_annotated(spec.name, root, test_only=is_test)
    if is_test or {"val", "test"} <= found.keys():
        return _read_split(spec, root, found["val" if is_test and "test" not in found else split])
    whole = _read_split(spec, root, found["train"])
    require(len(whole) > 1, "images of train", len(whole), "two or more, so that validation can take one")
    order = np.random.RandomState(derive_seed(seed, "validation") % 2**32).permutation(len(whole))
    carved, rest = np.split(order, [carved_images(len(whole), spec.val_fraction)])
    return whole.subset(np.sort(carved if split == "val" else rest))


def _read_split(spec: DataSpec, root: Path, source: Any) -> BoxFiles | MaskFiles:
    if "segmentation" in DATA_SETS[spec.name].tasks:
        return MaskFiles(source, spec.num_classes, from_one=spec.name == "ade20k")
    files, where = read_boxes(source), f"{source.file}: categories"
    allowed = f"the {spec.num_classes} of the data set"
    require(len(files.classes) == spec.num_classes, where, len(files.classes), allowed)
    others = [pair for pair in zip(files.classes, class_names(spec, root), strict=True) if len({*pair}) > 1]
    names, wanted = (listed([pair[side] for pair in others]) for side in (0, 1))
    require(not others, where, names, f"{wanted}, as in the last split: the same classes in the order of their ids")
    require(len(files) > 0, f"{source.file}: images", [], "an image or more")
    return files


def read_annotated(spec: DataSpec, root: Path | None, track: Track) -> tuple[dict[str, NDArray[Any]], list[FileFacts]]:
    """Read every image of a set with its boxes or mask; spec comes from resolve_data.

    Returns the labels of each split, of every box or of the classes that each mask has, counted from 0, and what was
    read of every image. Validation is carved as seed 0 carves it. Raises InputError if a list or layout is broken.
    """
    facts, labels = list[FileFacts](), dict[str, NDArray[Any]]()
    for split in ("train", "val", "test"):
        files = open_files(spec, Path(root or ""), split, seed=0)
        numbers = [np.array([], np.int64)]
        for index in track(range(len(files)), split):
            try:
                image, target = files.read(index)
            except InputError as error:
                facts.append(FileFacts(split, error=str(error)))
                continue
            facts.append(FileFacts(split, image.mode, image.size))
            masks = target.get("masks")
            present = target["labels"] - 1 if masks is None else np.setdiff1d(masks, [IGNORED])
            numbers.append(present.astype(np.int64))
        labels[split] = np.concatenate(numbers)
    return labels, facts
