"""Pictures of predictions: annotations in another size, what is drawn where, and the images with the largest losses."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.nn import functional as F

from mobileone_core.data.annotated.files import IGNORED
from mobileone_core.data.catalog import resolve_data
from mobileone_core.data.loaders import LoaderOptions
from mobileone_core.study.presets import preset_cell
from mobileone_core.training.tasks.dense import COLUMNS, SIDE, WORST, Examples, describe, draw, resized
from mobileone_core.training.tasks.task import build_task

NAMES = ("background", "cat", "dog")
TASKS = ("detection", "segmentation")


@pytest.fixture(autouse=True, scope="module")
def few_scenes():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mobileone_core.data.annotated.loaders.SCENES", {"train": 16, "val": 16, "test": 20})
        yield


def task_of(task):
    return build_task(
        preset_cell("tiny", resolve_data("scenes", None, 32, task=task), f"scenes-{HEAD[task]}", task=task)
    )


HEAD = {"detection": "ssdlite", "segmentation": "deeplab"}
sides = st.integers(1, 400)


@given(pixels=sides, rows=sides, columns=sides, seed=st.integers(0, 99))
def test_boxes_and_masks_in_another_size(pixels, rows, columns, seed):
    torch.manual_seed(seed)
    boxes = torch.rand(5, 4) * pixels
    item = {"boxes": boxes, "labels": torch.arange(1, 6), "scores": torch.linspace(1, 0, 5), "area": torch.ones(5)}
    shown = resized(item, pixels, (rows, columns), 0.4)
    assert shown.keys() == {"boxes", "labels", "scores"}
    assert shown["labels"].tolist() == [1, 2, 3]  # scores 1, 0.75, 0.5
    expected = boxes[:3].double() * torch.tensor([columns, rows, columns, rows]) / pixels
    assert torch.allclose(shown["boxes"].double(), expected, rtol=1e-4, atol=1e-4)
    logits = torch.randn(3, 8, 8)
    mask = resized(logits, 8, (8 * 3, 8 * 2))
    assert torch.equal(mask, logits.argmax(0).repeat_interleave(3, 0).repeat_interleave(2, 1))
    assert torch.equal(resized(logits.argmax(0), 8, (8, 8)), logits.argmax(0))


def test_boxes_are_drawn_with_the_colour_of_their_class_and_nothing_else_changes():
    image = torch.full((3, 200, 300), 100, dtype=torch.uint8)
    shown = {"boxes": torch.tensor([[50.0, 60, 150, 160]]), "labels": torch.tensor([2]), "scores": torch.tensor([0.75])}
    drawn = draw(image, shown, NAMES)
    changed = (drawn != image).any(0)
    assert changed[60, 50:150].all()
    assert changed[60:160, 150].all()
    assert not changed[:58].any()
    assert not changed[:, :48].any()
    assert not changed[100:150, 60:140].any()
    other = draw(image, {**shown, "labels": torch.tensor([1])}, NAMES)
    assert (other[:, 150, 150] != drawn[:, 150, 150]).any()
    assert torch.equal(draw(image, {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0)}, NAMES), image)
    assert describe(shown, NAMES) == [{"name": "cat", "score": 0.75, "box": [50.0, 60.0, 150.0, 160.0]}]


def test_regions_are_coloured_but_background_and_what_is_ignored():
    image = torch.full((3, 40, 40), 100, dtype=torch.uint8)
    mask = torch.zeros(40, 40, dtype=torch.long)
    mask[:10], mask[10:20], mask[20:, 20:] = 1, 2, IGNORED
    changed = (draw(image, mask, NAMES) != image).any(0)
    assert torch.equal(changed, (mask == 1) | (mask == 2))
    assert (draw(image, mask, ("sky", *NAMES[1:])) != image).any(0)[30, 0]  # a class 0 that is no background
    assert torch.equal(draw(image, torch.zeros_like(mask), NAMES), image)
    shares = describe(mask.clamp(max=2), NAMES)
    assert [row["share"] for row in shares] == [0.5, 0.25, 0.25]
    assert {row["name"]: row["share"] for row in shares} == {"dog": 0.5, "background": 0.25, "cat": 0.25}


@pytest.mark.parametrize("task", TASKS)
def test_the_images_with_the_largest_losses_come_first(task, tmp_path):
    made = task_of(task)
    torch.manual_seed(0)
    network = made.build_network().eval()
    examples, losses, inputs = Examples(made), [], []
    with made.open_data(None, LoaderOptions(8, "none")) as loaders, torch.inference_mode():
        for images, targets in loaders.test:
            outputs = network(images)
            examples.update(images, outputs, targets)
            for index in range(len(images)):  # each image by itself
                single = network(images[index : index + 1])
                losses.append(float(made.loss(single, targets[index : index + 1])))
                inputs.append(images[index])
    order = np.argsort(losses)[::-1][:WORST]
    assert [item[0] for item in examples.worst] == pytest.approx([losses[index] for index in order], rel=1e-3)
    assert all(torch.equal(item[1], inputs[index]) for item, index in zip(examples.worst, order, strict=True))
    names = ("background",) * (task == "segmentation") + tuple("0123456789")
    [path] = examples.save(tmp_path, names)
    first = path.read_bytes()
    examples.save(tmp_path, names)
    assert path.read_bytes() == first
    with Image.open(path) as picture:
        assert picture.width <= COLUMNS * (2 * SIDE + 20)
        grid = np.asarray(picture).astype(int)
    assert len(first) < 200_000
    target = examples.worst[0][2]
    truth = grid[5 : 5 + SIDE, 5 : 5 + SIDE].max(2) - grid[5 : 5 + SIDE, 5 : 5 + SIDE].min(2) > 20  # coloured
    if task == "segmentation":
        mask = F.interpolate(target[None, None].float(), (SIDE, SIDE), mode="nearest-exact")[0, 0].numpy() > 0
        assert (truth == mask).mean() > 0.97
    else:
        left, top, right, bottom = (target["boxes"][0] * SIDE / 32).round().int().clamp(max=SIDE - 1).tolist()
        assert truth[bottom, left:right].mean() > 0.8
        assert truth[top:bottom, right].mean() > 0.8
