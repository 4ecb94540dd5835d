"""Reads data sets that torchvision knows by name: all images of a split in memory."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mobileone_core.data.idx_files import read_file
from mobileone_core.data.spec import DATA_SETS, IDX_FILES
from mobileone_core.errors import InputError, require

BROKEN = (RuntimeError, ValueError, TypeError, LookupError, AssertionError, EOFError, OSError)


def read_named(name: str, root: Path, *, train: bool) -> tuple[Tensor, Tensor]:
    """Read one split of a data set that has a reader: images, uint8 (N, C, S, S), and labels, int64 (N,).

    The files lie below root as torchvision puts them; those of MNIST, Fashion-MNIST and KMNIST may also lie in root
    itself. Checksums are verified. Raises InputError for missing or broken files.
    """
    from torchvision import datasets  # takes a second

    entry = DATA_SETS[name]
    kind = getattr(datasets, entry.reader)
    try:
        if entry.files == IDX_FILES:
            with _unpacked(name, kind, root) as directory:
                loaded = kind(directory, **(entry.train if train else entry.test))
        else:
            loaded = kind(root, **(entry.train if train else entry.test))
        images, labels = _as_tensors(loaded)
    except InputError:
        raise
    except BROKEN as error:  # a file is missing, cut short, or has another checksum
        raise InputError(f"data_root: {root / entry.directory} is incomplete or broken; remove it") from error
    where, shape = f"data_root: {root}, {name}", (entry.channels, *images.shape[2:])
    require(tuple(images.shape[1:]) == shape, where, tuple(images.shape), f"{entry.channels} channels")
    require(len(images) == len(labels) > 0, where, f"{len(images)} images, {len(labels)} labels", "one label per image")
    fits = int(labels.min()) >= 0 and int(labels.max()) < entry.classes
    require(fits, where, f"label {int(labels.max())}", f"labels from 0 to {entry.classes - 1}")
    return (images.mT if entry.transposed else images).contiguous(), labels


def _as_tensors(loaded: Any) -> tuple[Tensor, Tensor]:
    """The images, uint8 (N, C, H, W), and labels of a data set of torchvision, whatever the layout of its pixels."""
    images = torch.as_tensor(loaded.data)
    if images.ndim == 3:
        images = images.unsqueeze(1)
    elif images.shape[-1] == 3:
        images = images.permute(0, 3, 1, 2)
    labels = loaded.targets if hasattr(loaded, "targets") else loaded.labels
    return images, torch.as_tensor(np.asarray(labels)).long()


@contextmanager
def _unpacked(name: str, kind: Any, root: Path) -> Iterator[str]:
    """A temporary directory with the idx files where torchvision looks for them; archives are checked first."""
    with tempfile.TemporaryDirectory() as aside:
        raw = Path(aside) / kind.__name__ / "raw"
        raw.mkdir(parents=True)
        for file in IDX_FILES:
            (raw / file.removesuffix(".gz")).write_bytes(read_file(name, root, file))
        yield aside
