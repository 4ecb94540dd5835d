"""The train, validation and test batches of one cell."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Literal, Self

import torch

from mobileone_core.data.augment import Normalize
from mobileone_core.data.epochs import WHOLE, BatchLoader, EpochPlan, Share
from mobileone_core.data.memory import ImageTensor, MemoryLoader
from mobileone_core.data.sets import Images, Splits, open_splits, open_test_set
from mobileone_core.data.spec import AUGMENTATIONS, DATA_SETS, EVAL_CROP, DataSpec, Phase
from mobileone_core.errors import require_choice, require_integer
from mobileone_core.fields import check_options, number_rule

Interpolation = Literal["bilinear", "bicubic"]
CROP = number_rule(lambda value: 0 < value <= 1, "a share above 0, and 1 at most")


@dataclass(frozen=True)
class LoaderOptions:
    """How images are batched and augmented, the device of the batches, and the number of decoding processes.

    augmentation is one of the task's in AUGMENTATIONS. workers = 0 decodes in this process. share is the part of every
    batch that this process reads. Validation and test images of a folder are resized with interpolation; crop is the
    fraction of the resized shorter side that the centre crop takes. normalization is the mean and std per channel, the
    data set's if not given. scales are those of EpochPlan, for training. Raises InputError.
    """

    batch_size: int = field(metadata={"rule": require_integer})
    augmentation: str
    phases: Sequence[Phase] = ()
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    workers: int = field(default=0, metadata={"rule": partial(require_integer, at_least=0)})
    share: Share = WHOLE
    crop: float = field(default=EVAL_CROP, metadata={"rule": CROP})
    interpolation: Interpolation = "bilinear"
    normalization: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    scales: Sequence[tuple[int, int]] = ()

    def __post_init__(self) -> None:
        check_options(self)
        require_choice("augmentation", self.augmentation, dict.fromkeys(sum(AUGMENTATIONS.values(), ())))


class SplitLoaders(ABC):
    """Train, validation and test batches; a context manager that ends their worker processes.

    Training batches are shuffled and augmented; the others have a fixed order. Each split is opened at first use.
    """

    def close(self) -> None:
        """End all worker processes."""
        for loader in (vars(self).get(name) for name in ("train", "val", "test")):
            if loader is not None:
                loader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @cached_property
    def train(self) -> BatchLoader:
        """Training batches; the last incomplete batch is dropped, unless it is the only one."""
        return self._open("train")

    @cached_property
    def val(self) -> BatchLoader:
        """Validation batches, all images."""
        return self._open("val")

    @cached_property
    def test(self) -> BatchLoader:
        """Test batches, all images."""
        return self._open("test")

    @abstractmethod
    def _open(self, split: str) -> BatchLoader: ...


class Loaders(SplitLoaders):
    """Batches of images with one label each."""

    def __init__(self, spec: DataSpec, splits: Splits, seed: int, options: LoaderOptions) -> None:
        self._spec, self._splits, self._seed, self._options = spec, splits, seed, options

    @cached_property
    def _test_images(self) -> Images:
        return self._splits.test()

    @property
    def majority(self) -> float:
        """Share of the test images that are of the most frequent class: the accuracy of a constant answer."""
        counts = torch.bincount(torch.as_tensor(self._test_images.labels))
        return float(counts.max() / counts.sum())

    def _open(self, split: str) -> BatchLoader:
        source = self._test_images if split == "test" else getattr(self._splits, split)
        return _batches(source, self._spec, self._seed, self._options, training=split == "train")


def open_loaders(spec: DataSpec, root: Path | None, seed: int, options: LoaderOptions) -> Loaders:
    """Open the loaders of a cell. All draws derive from seed: cells of one seed share split, order and augmentation.

    root is the data root (digits needs none). Raises InputError if the data are missing or broken.
    """
    return Loaders(spec, open_splits(spec, root, seed), seed, options)


def open_test(spec: DataSpec, root: Path | None, options: LoaderOptions, classes: Sequence[str] = ()) -> BatchLoader:
    """Open the batches of the test set alone; an image folder needs no train/. Close the loader after use.

    spec comes from resolve_data(..., test_only=True), and classes are as there. Raises InputError if the data are
    missing or broken.
    """
    return _batches(open_test_set(spec, root, classes), spec, 0, options, training=False)


def batching(
    count: int, spec: DataSpec, seed: int, options: LoaderOptions, *, training: bool
) -> tuple[Normalize, EpochPlan]:
    """Return how a split of count images is normalized, on the device, and its plan: for training with phases."""
    entry, (phases, scales) = DATA_SETS[spec.name], (options.phases, options.scales) if training else ((), ())
    plan = EpochPlan(count, seed, options.batch_size, spec.image_size, phases, training, options.share, scales)
    return Normalize(*(options.normalization or (entry.mean, entry.std)), options.device), plan


def _batches(source: Images, spec: DataSpec, seed: int, options: LoaderOptions, *, training: bool) -> BatchLoader:
    require_choice("augmentation", options.augmentation, AUGMENTATIONS["classification"])
    normalize, plan = batching(len(source), spec, seed, options, training=training)
    augmentation = options.augmentation if training else "none"
    if isinstance(source, ImageTensor):
        return MemoryLoader(source.to(options.device), normalize, augmentation, plan)
    from mobileone_core.data.stream import StreamLoader, image_transform  # torchvision takes a second

    transform = partial(image_transform, augmentation)
    if not training:
        transform = partial(transform, crop=options.crop, interpolation=options.interpolation)
    return StreamLoader(source, normalize, transform, plan, options.workers)
