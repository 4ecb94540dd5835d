"""Composed scenes: exact boxes and masks, functions of seed and number, of items that no other split has."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mobileone_core.data.annotated.loaders import AnnotatedLoaders
from mobileone_core.data.annotated.scenes import OBJECTS, VISIBLE, SceneComposer, uniform
from mobileone_core.data.catalog import class_names, resolve_data
from mobileone_core.data.epochs import Share
from mobileone_core.data.loaders import LoaderOptions
from mobileone_core.data.memory import ImageTensor
from mobileone_core.data.sets import load_scans
from mobileone_core.data.spec import DATA_SETS, DataSpec
from mobileone_core.errors import InputError

SIZE = 64


def composer(seed=3, size=SIZE) -> SceneComposer:
    return SceneComposer(ImageTensor(*load_scans()), size, seed)


def loaders(task="detection", seed=0, size=SIZE, **options):
    options = {"batch_size": 100, "augmentation": "none"} | options
    return AnnotatedLoaders(resolve_data("scenes", None, size, task=task), task, None, seed, LoaderOptions(**options))


@settings(max_examples=20, deadline=None)
@given(
    st.integers(0, 2**63 - 1), st.lists(st.integers(0, 2**40), min_size=1, max_size=4), st.sampled_from([32, 50, 96])
)
def test_a_scene_is_a_function_of_seed_and_number(seed, numbers, size):
    compose = composer(seed, size)
    together = compose(np.array(numbers))
    for place, number in enumerate(numbers):
        alone = compose(np.array([number]))
        for name in ("images", "boxes", "labels", "masks"):
            assert np.array_equal(getattr(together, name)[place], getattr(alone, name)[0]), name


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([32, 64, 96]))
def test_boxes_are_the_extents_of_visible_pixels_within_the_scene(start, size):
    scenes = composer(size=size)(np.arange(start, start + 8))
    assert scenes.images.shape == (8, 1, size, size)
    assert scenes.boxes.shape == (8, OBJECTS, 4)
    for every, names, mask in zip(scenes.boxes, scenes.labels, scenes.masks, strict=True):
        boxes, labels = every[names > 0].astype(int), names[names > 0]
        assert set(np.unique(mask)) - {0} == set(labels)
        inside = np.zeros((size, size), bool)
        for (left, top, right, bottom), label in zip(boxes, labels, strict=True):
            window = mask[top:bottom, left:right] == label
            assert window[0].any()
            assert window[-1].any()
            assert window[:, 0].any()
            assert window[:, -1].any()
            inside[top:bottom, left:right] = True
        assert not mask[~inside].any()
        if len(labels) == 1:  # without others the box is that of the whole mask
            rows, columns = np.nonzero(mask)
            assert [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] == boxes[0].tolist()


def test_an_object_is_brighter_where_its_mask_is():
    scenes = composer()(np.arange(64))
    for image, mask in zip(scenes.images[:, 0], scenes.masks, strict=True):
        assert image[mask > 0].mean() > image[mask == 0].mean() + 30


def test_scenes_have_one_to_four_objects_of_several_sizes_and_some_overlap():
    scenes = composer()(np.arange(400))
    counts = (scenes.labels > 0).sum(1)
    assert np.bincount(counts, minlength=OBJECTS + 1)[0] == 0
    assert (np.bincount(counts)[1:] > 20).all()
    sides = (scenes.boxes[..., 3] - scenes.boxes[..., 1])[scenes.labels > 0] / SIZE
    assert sides.min() < 0.2
    assert sides.max() > 0.45
    assert set(np.unique(scenes.labels)) == set(range(11))
    pairs = scenes.boxes[:, :1], scenes.boxes[:, 1:]  # those of no object are 0
    shared = np.minimum(pairs[0][..., 2:], pairs[1][..., 2:]) - np.maximum(pairs[0][..., :2], pairs[1][..., :2])
    assert 5 < (shared > 0).all(-1).sum() < 200
    assert VISIBLE == 0.5


def test_draws_are_uniform_and_independent():
    draws = uniform(5, np.arange(4000), 3)
    assert 0 <= draws.min() < draws.max() < 1
    assert np.abs(np.histogram(draws, 10, (0, 1))[0] / 1200 - 1).max() < 0.15
    assert np.abs(np.corrcoef(draws.T) - np.eye(3)).max() < 0.06
    assert not np.isin(draws, uniform(6, np.arange(4000), 3)).any()


@pytest.mark.slow
def test_items_of_the_splits_are_disjoint_and_test_is_fixed():
    with loaders(seed=0) as first, loaders(seed=1) as second:
        items = [{bytes(item) for item in getattr(first, split).composer.items} for split in ("train", "val", "test")]
        assert not (items[0] | items[1]) & items[2]
        train = len(first.train.composer.items) + len(first.val.composer.items)
        assert train + len(first.test.composer.items) == 1797
        (images, _), (again, _) = (next(iter(each.test)) for each in (first, second))
        assert torch.equal(images, again)
        (images, _), (others, _) = (next(iter(each.val)) for each in (first, second))
        assert not torch.equal(images, others)


def test_training_composes_others_every_epoch_and_repeats_them_when_resumed():
    with loaders(batch_size=40) as whole, loaders(batch_size=40) as resumed:
        assert len(whole.train) == 50
        first, _ = next(iter(whole.train))
        whole.train.set_epoch(1, 0.5)
        resumed.train.set_epoch(1, 0.5)
        for _, (images, targets), (again, expected) in zip(range(2), whole.train, resumed.train, strict=False):
            assert torch.equal(images, again)
            assert all(torch.equal(one["boxes"], two["boxes"]) for one, two in zip(targets, expected, strict=True))
            assert not torch.equal(images, first)


def test_batches_are_those_of_the_interface():
    with loaders() as boxes, loaders("segmentation") as masks:
        (images, targets), (same, labels) = next(iter(boxes.test)), next(iter(masks.test))
    assert torch.equal(images, same)
    assert images.dtype == torch.float32
    assert (images.mean().abs() < 0.3, 0.7 < images.std() < 1.3) == (True, True)
    assert labels.dtype == torch.int64
    assert labels.shape == (100, SIZE, SIZE)
    for target, mask in zip(targets, labels, strict=True):
        assert target["boxes"].dtype == torch.float32
        assert set(target["labels"].tolist()) == set(mask.unique().tolist()) - {0}
    assert len(targets) == 100


def test_ranks_share_the_scenes():
    with loaders(batch_size=200) as whole:
        images, _ = next(iter(whole.test))
    for rank in range(2):
        with loaders(batch_size=200, share=Share(rank, 2)) as part:
            assert torch.equal(next(iter(part.test))[0], images[rank::2])
            assert len(part.train) == 10


def test_normalization_is_that_of_the_pixels():
    images = composer(size=96)(np.arange(300)).images / 255
    assert (images.mean(), images.std()) == pytest.approx(
        (DATA_SETS["scenes"].mean[0], DATA_SETS["scenes"].std[0]), abs=0.01
    )


def test_the_spec_counts_background_for_masks_alone():
    boxes, masks = resolve_data("scenes", None), resolve_data("scenes", None, task="segmentation")
    assert (boxes.num_classes, masks.num_classes, boxes.image_size, boxes.train_images) == (10, 11, 96, 2000)
    assert class_names(masks, None) == ("background", *map(str, range(10)))
    assert class_names(boxes, None) == tuple(map(str, range(10)))


def test_other_items(tmp_path):
    spec = resolve_data("scenes", tmp_path, items="fashion_mnist")
    assert (spec.title, spec.items, class_names(spec, None)[0]) == (
        "scenes of fashion_mnist",
        "fashion_mnist",
        "T-shirt/top",
    )
    assert DataSpec() == resolve_data("digits", None)
    clothes = ImageTensor(torch.randint(256, (50, 1, 28, 28), dtype=torch.uint8), torch.arange(50) % 10)
    scenes = SceneComposer(clothes, SIZE, 0)(np.arange(20))
    assert (scenes.labels > 0).any(1).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: loaders(augmentation="crop"), "augmentation: 'crop' is not allowed; one of none, ssd"),
        (lambda: loaders(augmentation="ssd"), "augmentation: 'ssd' is not allowed; none: every epoch has other scenes"),
        (
            lambda: resolve_data("scenes", None, items="cifar10"),
            "items: 'cifar10' is not allowed; one of digits",
        ),
        (lambda: resolve_data("scenes", None, items="mnist"), "data_root: mnist needs"),
        (lambda: DataSpec(items="mnist"), "items: 'mnist' is not allowed; it is for scenes alone"),
        (lambda: AnnotatedLoaders(DataSpec(), "detection", None, 0, LoaderOptions(1, "none")), "data: 'digits' is not"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(InputError, match=message):
        make()
