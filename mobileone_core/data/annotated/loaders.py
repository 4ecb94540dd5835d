"""The train, validation and test batches of images with boxes or masks."""

from collections.abc import Iterator
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from mobileone_core.data.annotated.scenes import SceneComposer
from mobileone_core.data.augment import Normalize
from mobileone_core.data.catalog import check_root
from mobileone_core.data.epochs import BatchLoader, EpochPlan
from mobileone_core.data.loaders import LoaderOptions, SplitLoaders, batching
from mobileone_core.data.seeding import derive_seed
from mobileone_core.data.sets import open_splits
from mobileone_core.data.spec import AUGMENTATIONS, DATA_SETS, DataSpec, data_sets
from mobileone_core.errors import require, require_choice

AnnotatedTask = Literal["detection", "segmentation"]
# Scenes per epoch; validation and test are fixed.
SCENES = {"train": DATA_SETS["scenes"].train_images, "val": 500, "test": 1000}


class AnnotatedLoaders(SplitLoaders):
    """Batches of images with targets of a task, detection or segmentation.

    Targets of detection are a list of B dicts: boxes, float32 (n, 4), xyxy in pixels of the batch's image, and labels,
    int64 (n,), from 1. Those of segmentation are masks, int64 (B, S, S), in which 255 is ignored.

    All draws derive from seed; test does not depend on it. root is the data root (scenes of digits need none). Splits
    are opened at first use, so that the test set alone can be read. Raises InputError if the data are missing or
    broken, or the options do not fit.
    """

    def __init__(
        self, spec: DataSpec, task: AnnotatedTask, root: Path | None, seed: int, options: LoaderOptions
    ) -> None:
        require_choice("data", spec.name, data_sets(task))
        require(not options.phases, "phases", "progressive learning", f"none for {task}")
        require_choice("augmentation", options.augmentation, AUGMENTATIONS[task])
        fits = spec.name != "scenes" or options.augmentation == "none"
        require(fits, "augmentation", options.augmentation, "none: every epoch has other scenes")
        self._spec, self._task, self._root, self._seed, self._options = spec, task, root, seed, options

    def _open(self, split: str) -> BatchLoader:
        if self._spec.name == "scenes":
            return self._scenes(split)
        from mobileone_core.data.annotated.files import annotated_transform, open_files
        from mobileone_core.data.stream import StreamLoader  # torchvision takes a second

        options, training = self._options, split == "train"
        files = open_files(self._spec, check_root(self._spec.name, self._root), split, self._seed)
        augmentation = options.augmentation if training else "none"
        transform = partial(
            annotated_transform, augmentation=augmentation, interpolation=options.interpolation, training=training
        )
        normalize, plan = batching(len(files), self._spec, self._seed, options, training=training)
        return StreamLoader(files, normalize, transform, plan, options.workers)

    @cached_property
    def _items(self) -> Any:
        items = DATA_SETS[self._spec.items]
        size = 8 if self._spec.items == "digits" else items.image_size  # the scans as they are
        return open_splits(DataSpec(self._spec.items, size, items.classes), self._root, self._seed)

    def _scenes(self, split: str) -> BatchLoader:
        is_test, training = split == "test", split == "train"
        items = self._items.test() if is_test else getattr(self._items, split)
        seed = derive_seed(0 if is_test else self._seed, "scenes", split)
        composer = SceneComposer(items, self._spec.image_size, seed)
        batches = batching(SCENES[split], self._spec, self._seed, self._options, training=training)
        return SceneLoader(composer, self._task, *batches)


class SceneLoader(BatchLoader):
    """Batches of scenes: others in every epoch of training, fixed ones, which are composed once, otherwise."""

    def __init__(self, composer: SceneComposer, task: AnnotatedTask, normalize: Normalize, plan: EpochPlan) -> None:
        self.composer, self.task, self.normalize, self.plan = composer, task, normalize, plan

    def __iter__(self) -> Iterator[tuple[Tensor, Any]]:
        batches = map(self._compose, self.plan.batches()) if self.plan.shuffle else self._fixed
        for images, targets in batches:
            yield self.normalize(images), targets

    @cached_property
    def _fixed(self) -> list[tuple[Tensor, Any]]:
        return list(map(self._compose, self.plan.batches()))

    def _compose(self, indices: Tensor) -> tuple[Tensor, Any]:
        scenes = self.composer(indices.numpy() + self.plan.moment.epoch * self.plan.count * self.plan.shuffle)
        images, boxes, labels, masks = (torch.from_numpy(array).to(self.normalize.device) for array in scenes)
        if self.task == "segmentation":
            return images, masks.long()
        triples = zip(boxes, labels, labels > 0, strict=True)
        return images, [{"boxes": box[exists], "labels": label[exists]} for box, label, exists in triples]
