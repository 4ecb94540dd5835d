"""Images with boxes or masks in files: the splits of a data set, and their batches."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mobileone_core.data.annotated.boxes import BoxFiles, read_boxes
from mobileone_core.data.annotated.layouts import find_boxes, find_masks
from mobileone_core.data.annotated.masks import MaskFiles
from mobileone_core.data.autoaugment import seeded
from mobileone_core.data.catalog import resolve_data
from mobileone_core.data.epochs import Moment
from mobileone_core.data.seeding import derive_seed
from mobileone_core.data.spec import DATA_SETS, DataSpec, carved_images
from mobileone_core.data.stream import Item, StreamDataset, StreamLoader, Unreadable
from mobileone_core.errors import InputError, require


def open_files(spec: DataSpec, root: Path, split: str, seed: int) -> BoxFiles | MaskFiles:
    """Open a split of a data set in files.

    With val and test both, they are validation and test. With one of them it is the test set, and val_fraction of the
    training images, chosen by the seed, is validation. Raises InputError if the data are missing or broken, or are not
    those of the spec's fingerprint.
    """
    is_test = split == "test"
    if spec.fingerprint and not is_test and resolve_data(spec.name, root).fingerprint != spec.fingerprint:
        raise InputError(f"data_root: {root} is not the data set that was planned: its files have changed")
    find = find_boxes if "detection" in DATA_SETS[spec.name].tasks else find_masks
    found: dict[str, Any] = find(spec.name, root, test_only=is_test)
    if is_test or {"val", "test"} <= found.keys():
        return _read_split(spec, found["val" if is_test and "test" not in found else split])
    whole = _read_split(spec, found["train"])
    order = np.random.RandomState(derive_seed(seed, "validation") % 2**32).permutation(len(whole))
    carved, rest = np.split(order, [carved_images(len(whole), spec.val_fraction)])
    return whole.subset(np.sort(carved if split == "val" else rest))


def _read_split(spec: DataSpec, source: Any) -> BoxFiles | MaskFiles:
    if "segmentation" in DATA_SETS[spec.name].tasks:
        return MaskFiles(source, spec.num_classes, from_one=spec.name == "ade20k")
    files = read_boxes(source)
    allowed = f"the {spec.num_classes} of the data set"
    require(len(files.classes) == spec.num_classes, f"{source.file}: categories", len(files.classes), allowed)
    return files


class AnnotatedDataset(StreamDataset):
    """Images and targets as arrays; transform makes a tensor and a target of what the files read."""

    def item(self, index: int, moment: Moment) -> Item:
        """Return one image, uint8 (3, S, S), and its target."""
        try:
            image, target = self.files.read(index)
        except InputError as error:
            return Unreadable(str(error))
        with seeded(derive_seed(self.seed, "augmentation", moment.epoch, index)):
            changed: tuple[Tensor, Any] = self.transform(image, target)
            return changed


class AnnotatedLoader(StreamLoader):
    """Batches of images and targets in files, read by worker processes."""

    dataset = AnnotatedDataset

    def targets(self, labels: list[Any]) -> Any:
        """A dict of tensors per image for boxes; masks, int64 (B, S, S)."""
        if not isinstance(labels[0], dict):
            return torch.from_numpy(np.stack(labels)).to(self.device).long()
        return [{name: torch.as_tensor(value, device=self.device) for name, value in item.items()} for item in labels]
