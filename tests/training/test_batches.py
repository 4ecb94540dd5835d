"""Soft labels that are computed once travel with their own images, whichever loader and process reads them."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from mobileone_core.data.epochs import Share
from mobileone_core.data.loaders import LoaderOptions, open_loaders
from mobileone_core.data.spec import DataSpec
from mobileone_core.training.module import EpochBatches
from mobileone_core.training.recipe import Phase, Recipe


class Stub:
    """The part of a module that EpochBatches reads; its teachers return the mean of an image."""

    def __init__(self):
        self.recipe, self.teachers, self.current_epoch, self.images_seen = (
            Recipe(epochs=3, augmentation="none"),
            object(),
            0,
            0,
        )
        self.first_epoch = 0

    def soft_labels(self, images):
        self.images_seen += len(images)
        return images.mean((1, 2, 3))[:, None]


@pytest.fixture
def folder(tmp_path):
    """Two classes of 9 noise images to train on and 2 to validate on."""
    generator = np.random.default_rng(0)
    for index in range(22):
        path = tmp_path / ("train" if index < 18 else "val") / "ab"[index % 2] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(path)
    return tmp_path


@pytest.mark.parametrize("share", [Share(), Share(1, 2)])
@pytest.mark.parametrize("name", ["digits", "folder"])
def test_each_image_brings_its_own_soft_label(folder, name, share):
    data = DataSpec("digits", 16) if name == "digits" else DataSpec("folder", 8, 2, 3, 0.2)
    options = LoaderOptions(128 if name == "digits" else 6, "none", share=share)
    with open_loaders(data, folder, 0, options) as loaders:
        module, loader = Stub(), loaders.train
        count, order = loader.plan.count, [batch.tolist() for batch in loader.plan.batches()]
        batches = EpochBatches(loader, module)
        for epoch in range(3):
            module.current_epoch = epoch
            drawn = list(batches)
            assert len(drawn) == len(loader) == len(batches)
            for images, labels, soft in drawn:
                assert len(images) == len(labels) == options.batch_size // share.ranks
                torch.testing.assert_close(soft, images.mean((1, 2, 3))[:, None])
        assert module.images_seen == count
        loader.set_epoch(0, 0.0)
        assert [batch.tolist() for batch in loader.plan.batches()] == order


@pytest.mark.parametrize(
    "changes",
    [{"augmentation": "crop"}, {"phases": (Phase(1.0, 16, 0.0),)}, {"teachers": None}],
    ids=lambda changes: next(iter(changes)),
)
def test_nothing_is_computed_ahead_where_images_change_or_nobody_teaches(changes):
    module = Stub()
    module.teachers = changes.get("teachers", module.teachers)
    module.recipe = SimpleNamespace(**{"epochs": 3, "augmentation": "none", "phases": (), "scales": (), **changes})
    with open_loaders(DataSpec("digits", 16), None, 0, LoaderOptions(256, "none")) as loaders:
        drawn = list(EpochBatches(loaders.train, module))
    assert {len(batch) for batch in drawn} == {2}
    assert module.images_seen == 0
