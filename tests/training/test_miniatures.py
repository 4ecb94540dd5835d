"""One epoch on a miniature of every set with boxes or masks, in its real layout: with the data one command suffices."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mobileone_core.data.catalog import resolve_data
from mobileone_core.model.spec import ModelSpec
from mobileone_core.training.cell import CellSpec
from mobileone_core.training.head import HeadSpec
from mobileone_core.training.recipe import Recipe

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
import annotated_sets as sets

DETECTOR = HeadSpec(stride=8, extras=(16,), scales=(0.2, 0.6, 0.8), score_threshold=0.05)
EIGHTY = [{"id": number + number // 8, "name": f"thing {number}"} for number in range(1, 81)]
SETS = {
    "coco": lambda root: sets.write_coco(root, sets.coco_content(12, EIGHTY)),
    "boxes": lambda root: sets.write_coco(root, year="", annotations="annotations/{}.json"),
    "voc": lambda root: sets.write_voc(root, more=[f"b{number}" for number in range(6)]),
    "ade20k": sets.write_ade20k,
    "masks": sets.write_masks,
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:ema_decay")
@pytest.mark.parametrize("name", SETS)
def test_an_epoch_goes_through(name, train, tmp_path):
    root = SETS[name](tmp_path / "data")
    is_boxes = name in ("coco", "boxes")
    task, augmentation = ("detection", "ssd") if is_boxes else ("segmentation", "scale_crop_flip")
    model = ModelSpec(widths=(8, 12, 16), depths=(1, 1, 1), k=2, stage_strides=(2, 2, 2))
    recipe = Recipe(1, 4, "adamw", 1e-3, label_smoothing=0.0, ema_decay=0.0, augmentation=augmentation)
    head = DETECTOR if is_boxes else HeadSpec(width=8, rates=(1, 2))
    data = resolve_data(name, root, 32)
    spec = CellSpec(replace(model, output_stride=32 if is_boxes else 8), data, recipe, task=task, head=head)
    result = train(spec=spec, root=root)
    assert 0 <= result.metrics["test/map50" if is_boxes else "test/miou"] <= 1
