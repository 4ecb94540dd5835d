"""One epoch on a miniature of every set with boxes or masks, in its real layout: with the data one command suffices."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mobileone_core.cli.options.study import parse
from mobileone_core.data.catalog import resolve_data
from mobileone_core.model.spec import ModelSpec
from mobileone_core.study.declaration import Study
from mobileone_core.study.factor import Factor
from mobileone_core.training.cell import CellSpec
from mobileone_core.training.head import HeadSpec, head_preset
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


@pytest.mark.parametrize(
    ("task", "name", "recipe"),
    [("detection", "boxes", "scenes-ssdlite"), ("segmentation", "masks", "scenes-deeplab")],
)
def test_own_boxes_and_masks_take_a_recipe_fitted_to_them(tmp_path, task, name, recipe):
    SETS[name](tmp_path)
    study = Study("own", "Which?", (Factor("k", "model.k", levels=(1, 4), baseline=1),), task=task, data="scenes")
    plan = parse(study, ("--data", name, "--data-root", str(tmp_path))).request.plan
    images = plan.base.data.train_images
    assert plan.study.recipe == f"{recipe}-{images}"
    assert plan.base.recipe.batch_size == 8
    assert plan.base.recipe.steps(images) >= 200
    assert plan.base.data.image_size == 128
    assert (plan.base.head, plan.base.model.output_stride) == head_preset(recipe)
    for again in ("fitted", f"fitted-{images}", plan.study.recipe):
        assert parse(study, ("--data", name, "--data-root", str(tmp_path), "--recipe", again)).request.plan == plan
    declared = replace(study, data=name, recipe="fitted")
    assert parse(declared, ("--data-root", str(tmp_path))).request.plan.base == plan.base
