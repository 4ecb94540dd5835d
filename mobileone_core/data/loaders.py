"""Loaders of one cell: what training iterates over."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Literal, Protocol, Self, get_args

import torch
from torch import Tensor

from mobileone_core.data.augment import AUGMENTATIONS, Normalize
from mobileone_core.data.epochs import WHOLE, EpochPlan, PhaseLike, Share
from mobileone_core.data.known import DATA_SETS
from mobileone_core.data.memory import ImageTensor, MemoryLoader
from mobileone_core.data.sets import Source, Splits, open_splits, open_test_set
from mobileone_core.data.spec import DataSpec
from mobileone_core.errors import require

Interpolation = Literal["bilinear", "bicubic"]


@dataclass(frozen=True)
class LoaderOptions:
    """How images are batched and augmented, where batches are wanted, and how many processes decode (0: this one).

    augmentation is "none", "crop", "crop_flip" or "resized_crop_flip". Of a batch of batch_size a share is read.
    Validation and test images of a folder are resized with interpolation, and crop is the share of the shorter side
    that the centre crop then takes.
    """

    batch_size: int
    augmentation: str
    phases: Sequence[PhaseLike] = ()
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    workers: int = 0
    share: Share = WHOLE
    crop: float = 0.875
    interpolation: Interpolation = "bilinear"

    def __post_init__(self) -> None:
        require(self.batch_size >= 1, "batch_size", self.batch_size, "an integer of 1 or more")
        require(self.workers >= 0, "workers", self.workers, "an integer of 0 or more")
        allowed = f"one of {', '.join(AUGMENTATIONS)}"
        require(self.augmentation in AUGMENTATIONS, "augmentation", self.augmentation, allowed)
        require(0 < self.crop <= 1, "crop", self.crop, "a share above 0, and 1 at most")
        names = get_args(Interpolation)
        require(self.interpolation in names, "interpolation", self.interpolation, f"one of {', '.join(names)}")


class BatchLoader(Protocol):
    """Batches of images, float32 normalized (B, C, S, S), and labels, int64 (B,), on the device; plan orders them."""

    plan: EpochPlan

    def set_epoch(self, epoch: int, progress: float) -> None:
        """Choose the epoch (from 0) that the next iteration reads, and the phase by its progress in [0, 1)."""

    def close(self) -> None:
        """End the worker processes, if there are any."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]: ...


class Loaders:
    """Train, validation and test batches. Training is shuffled and augmented; the others have a fixed order.

    To be closed when done with: its worker processes end then.
    """

    def __init__(self, spec: DataSpec, splits: Splits, seed: int, options: LoaderOptions) -> None:
        self._spec, self._splits, self._seed, self._options = spec, splits, seed, options

    def close(self) -> None:
        """End the worker processes of what was opened."""
        for loader in (vars(self).get(name) for name in ("train", "val", "test")):
            if loader is not None:
                loader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @cached_property
    def train(self) -> BatchLoader:
        """Drops the last incomplete batch, unless it is the only one."""
        return self._loader(self._splits.train, training=True)

    @cached_property
    def val(self) -> BatchLoader:
        """Drops nothing."""
        return self._loader(self._splits.val, training=False)

    @cached_property
    def test(self) -> BatchLoader:
        """Drops nothing; opened when first asked for."""
        return self._loader(self._splits.test(), training=False)

    def _loader(self, source: Source, *, training: bool) -> BatchLoader:
        return _batches(source, self._spec, self._seed, self._options, training=training)


def open_loaders(spec: DataSpec, root: Path | None, seed: int, options: LoaderOptions) -> Loaders:
    """The loaders of a cell: all draws derive from seed, so cells of one seed share split, order and augmentation.

    root is the data root (digits needs none). Raises InputError where the data are missing or broken.
    """
    return Loaders(spec, open_splits(spec, root, seed), seed, options)


def open_test(spec: DataSpec, root: Path | None, options: LoaderOptions) -> BatchLoader:
    """Batches of the test set alone: folders need no train/. spec is resolved with test_only; to be closed.

    Raises InputError where the data are missing or broken.
    """
    return _batches(open_test_set(spec, root), spec, 0, options, training=False)


def _batches(source: Source, spec: DataSpec, seed: int, options: LoaderOptions, *, training: bool) -> BatchLoader:
    entry = DATA_SETS[spec.name]
    plan = EpochPlan(
        len(source),
        seed,
        options.batch_size,
        spec.image_size,
        phases=options.phases if training else (),
        shuffle=training,
        share=options.share,
    )
    normalize = Normalize(entry.mean, entry.std, options.device)
    augmentation = options.augmentation if training else "none"
    if isinstance(source, ImageTensor):
        return MemoryLoader(source.to(options.device), normalize, augmentation, plan)
    from mobileone_core.data.stream import StreamLoader, image_transform  # torchvision takes a second

    transform = partial(image_transform, augmentation)
    if not training:
        transform = partial(transform, crop=options.crop, interpolation=options.interpolation)
    return StreamLoader(source, normalize, transform, plan, options.device, options.workers)
