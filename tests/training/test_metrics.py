"""COCO's average precision is that of pycocotools; mean IoU is that of a confusion matrix made by hand."""

import contextlib
import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torchmetrics import MetricCollection

from mobileone_core.errors import InputError
from mobileone_core.training.tasks.detection import BoxPrecision
from mobileone_core.training.tasks.segmentation import MeanIoU

NAMES = ("map", "map50", "map75", "map_small", "map_medium", "map_large")


def random_boxes(random, count, size):
    corner, sides = random.uniform(0, size, (count, 2)), np.exp(random.uniform(1, 5.3, (count, 2)))
    return np.concatenate([corner, corner + sides], 1).astype(np.float32)


def random_images(seed, images, classes, size=400):
    """Targets, and detections that are partly near them; among the targets are crowds."""
    random, preds, targets = np.random.default_rng(seed), [], []
    for _ in range(images):
        count, wrong = random.integers(0, 8), random.integers(0, 5)
        boxes, labels = random_boxes(random, count, size), random.integers(1, classes + 1, count)
        near = (boxes + random.normal(0, 4, boxes.shape).astype(np.float32)).repeat(2, 0)
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
        found = np.concatenate([near, random_boxes(random, wrong, size)])
        names = np.concatenate([labels.repeat(2), random.integers(1, classes + 1, wrong)])
        scores = random.permutation(len(found) * 7)[: len(found)] / (len(found) * 7 + 1)
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(1) * random.uniform(0.5, 1, count)
        preds.append(tensors(boxes=found, labels=names, scores=scores.astype(np.float32)))
        crowds = (random.random(count) < 0.1).astype(np.int64)
        targets.append(tensors(boxes=boxes, labels=labels, iscrowd=crowds, area=areas.astype(np.float32)))
    return preds, targets


def tensors(**arrays):
    return {name: torch.from_numpy(value) for name, value in arrays.items()}


def pycocotools(preds, targets):
    """The same numbers by COCO's own code, from its own format."""

    def xywh(box):
        return [*box[:2], box[2] - box[0], box[3] - box[1]]

    annotations, found = [], []
    for image, (pred, target) in enumerate(zip(preds, targets, strict=True), start=1):
        columns = zip(*(target[name].tolist() for name in ("boxes", "labels", "iscrowd", "area")), strict=True)
        for box, label, crowd, area in columns:
            common = {"image_id": image, "category_id": label, "bbox": xywh(box)}
            annotations.append({"id": len(annotations) + 1, "iscrowd": crowd, "area": area, **common})
        for box, label, score in zip(*(pred[name].tolist() for name in ("boxes", "labels", "scores")), strict=True):
            found.append({"image_id": image, "category_id": label, "bbox": xywh(box), "score": score})
    truth = COCO()
    labels = sorted({item["category_id"] for item in annotations + found})
    images, categories = [{"id": i + 1} for i in range(len(targets))], [{"id": label} for label in labels]
    truth.dataset = {"images": images, "annotations": annotations, "categories": categories}
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(NAMES, evaluation.stats[:6].tolist(), strict=True))


@pytest.mark.parametrize("seed", range(6))
def test_average_precision_equals_pycocotools(seed):
    preds, targets = random_images(seed, images=20, classes=4)
    metrics = MetricCollection({"map": BoxPrecision("random")})
    for start in range(0, 20, 6):
        metrics.update(preds[start : start + 6], targets[start : start + 6])
    expected = pycocotools(preds, targets)
    assert 0.05 < expected["map"] < expected["map50"] < 0.9
    computed = {name: float(value) for name, value in metrics.compute().items()}
    assert computed == pytest.approx(expected, abs=1e-6)


def test_precision_is_measured_in_the_pixels_of_the_original_image():
    preds, targets = random_images(0, images=20, classes=4)
    expected = MetricCollection({"map": BoxPrecision("")})
    expected.update(preds, targets)
    scale = torch.tensor([4.0, 0.5])
    small = [{**item, "boxes": item["boxes"] / scale.repeat(2)} for item in preds]
    scaled = [{**item, "boxes": item["boxes"] / scale.repeat(2), "scale": scale} for item in targets]
    metrics = MetricCollection({"map": BoxPrecision("")})
    metrics.update(small, scaled)
    for name, value in expected.compute().items():
        assert float(metrics.compute()[name]) == pytest.approx(float(value), abs=1e-6), name


def test_sizes_without_objects_have_no_metric_and_no_objects_at_all_are_refused():
    box = torch.tensor([[0.0, 0.0, 50.0, 50.0]])
    target = {"boxes": box, "labels": torch.tensor([1])}
    metrics = MetricCollection({"map": BoxPrecision("ours")})
    metrics.update([{**target, "scores": torch.tensor([0.5])}], [target])
    assert {name: float(value) for name, value in metrics.compute().items()} == pytest.approx(
        {"map": 1, "map50": 1, "map75": 1, "map_medium": 1}
    )
    metrics.reset()
    metrics.update([{**target, "scores": torch.tensor([0.5])}], [{"boxes": box[:0], "labels": target["labels"][:0]}])
    with pytest.raises(InputError, match="data: 'ours' is not allowed; a set with an object in one of its images"):
        metrics.compute()


def test_miou_of_a_confusion_matrix_made_by_hand():
    """Class 0: 3 of 5 pixels; class 1: 1 of 4; class 2 is predicted alone; class 3 does not occur."""
    masks = torch.tensor([[[0, 0, 0, 0], [1, 1, 1, 255]], [[0, 0, 255, 255], [255] * 4]])
    labels = torch.tensor([[[0, 0, 1, 1], [1, 2, 2, 2]], [[0, 2, 3, 3], [3] * 4]])
    # confusion: 0 -> 0: 3, 1: 2, 2: 1; 1 -> 1: 1, 2: 2
    expected = (3 / 6 + 1 / 5 + 0) / 3
    whole = MetricCollection({"miou": MeanIoU(4, "")})
    whole.update(labels, masks)
    assert float(whole.compute()["miou"]) == pytest.approx(expected)
    parts = MetricCollection({"miou": MeanIoU(4, "")})  # over all pixels, not image by image
    for label, mask in zip(labels, masks, strict=True):
        parts.update(torch.nn.functional.one_hot(label, 4).permute(2, 0, 1)[None].float(), mask[None])
    assert float(parts.compute()["miou"]) == pytest.approx(expected)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 6))
def test_miou_of_random_masks(seed, classes):
    random = np.random.default_rng(seed)
    masks, labels = random.integers(0, classes, (2, 3, 5, 5))
    masks[random.random(masks.shape) < 0.3] = 255
    matrix = np.zeros((classes, classes))
    np.add.at(matrix, (masks[masks < 255], labels[masks < 255]), 1)
    shared, union = matrix.diagonal(), matrix.sum(0) + matrix.sum(1) - matrix.diagonal()
    metrics = MetricCollection({"miou": MeanIoU(classes, "")})
    metrics.update(torch.from_numpy(labels), torch.from_numpy(masks))
    assert float(metrics.compute()["miou"]) == pytest.approx((shared[union > 0] / union[union > 0]).mean(), abs=1e-6)


def test_a_set_whose_pixels_are_all_ignored_is_refused():
    metrics = MetricCollection({"miou": MeanIoU(3, "ours")})
    metrics.update(torch.zeros(1, 2, 2, dtype=torch.long), torch.full((1, 2, 2), 255))
    with pytest.raises(InputError, match="data: 'ours' is not allowed; a set with a pixel that is not ignored"):
        metrics.compute()
