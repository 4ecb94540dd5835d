"""Cells that train detectors and segmenters: metrics, cost, resume to the bit, initial weights, other backbones."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from mobileone_core.data.catalog import resolve_data
from mobileone_core.errors import InputError
from mobileone_core.model.network import build_model
from mobileone_core.model.spec import ModelSpec
from mobileone_core.training.cell import CellSpec, pretraining_cell
from mobileone_core.training.fine_tuning import freeze, load_initial
from mobileone_core.training.head import HeadSpec, head_preset
from mobileone_core.training.observer import TrainingStopped
from mobileone_core.training.optimizer import build_optimizer
from mobileone_core.training.recipe import Recipe, weights_digest
from mobileone_core.training.recipe_presets import RECIPES
from mobileone_core.training.tasks.task import build_task

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
import annotated_sets as sets

pytestmark = pytest.mark.filterwarnings("ignore:ema_decay")
MODEL = ModelSpec(widths=(8, 12, 16), depths=(1, 1, 1), k=2, stage_strides=(2, 2, 2), in_channels=1)
RECIPE = Recipe(2, 16, "adamw", 2e-3, label_smoothing=0.0, ema_decay=0.8, augmentation="none", head_lr_factor=2.0)
HEADS = {
    "detection": HeadSpec(stride=8, extras=(16,), scales=(0.2, 0.6, 0.8), score_threshold=0.05),
    "segmentation": HeadSpec(width=8, rates=(1, 2), aux_weight=0.4),
}


def cell_of(task, **fields):
    data = resolve_data("scenes", None, 32, task=task)
    stride = {"detection": 32, "segmentation": 8}[task]
    return CellSpec(replace(MODEL, output_stride=stride), data, RECIPE, task=task, head=HEADS[task], **fields)


@pytest.fixture(autouse=True)
def few_scenes(monkeypatch):
    counts = {"train": 64, "val": 16, "test": 32}
    monkeypatch.setattr("mobileone_core.data.annotated.loaders.SCENES", counts)


@pytest.mark.slow
@pytest.mark.parametrize("task", HEADS)
def test_a_cell_is_tested_and_resumed_to_the_bit(task, train, memory):
    spec = cell_of(task)
    whole = train("whole", spec=spec)
    metric = {"detection": "map50", "segmentation": "miou"}[task]
    assert {f"test/{metric}", f"val/{metric}", "test/form_difference_relative"} <= whole.metrics.keys()
    assert 0 <= whole.metrics[f"test/{metric}"] <= 1
    assert whole.metrics["test/form_difference_relative"] < 1e-4
    assert (whole.metrics["test/images"], whole.metrics["train/steps"]) == (32, 8)
    deployed = sum(v.numel() for n, v in load_file(whole.weights).items() if n.startswith("head."))
    assert whole.metrics["deployed/params"] > deployed / 2
    assert whole.metrics["deployed/macs"] > 1e4
    with pytest.raises(TrainingStopped):
        train("parts", memory(after_batch=6), spec=spec)
    parts = train("parts", spec=spec)
    same = {name: value for name, value in whole.metrics.items() if not name.startswith("time/")}
    assert same == {name: value for name, value in parts.metrics.items() if not name.startswith("time/")}
    state = load_file(whole.weights)
    assert all(torch.equal(value, state[name]) for name, value in load_file(parts.weights).items())


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["timm:mobilenetv3_small_050", "torchvision:mobilenet_v3_small"])
@pytest.mark.parametrize("task", HEADS)
def test_a_backbone_of_a_library_trains_end_to_end(backbone, task, train, tmp_path):
    """On photographs, since torchvision's networks read three channels."""
    is_boxes, root = task == "detection", tmp_path / "data"
    if is_boxes:
        sets.write_coco(root, year="", annotations="annotations/{}.json")
    else:
        sets.write_masks(root)
    data = resolve_data("boxes" if is_boxes else "masks", root, 64)
    model, recipe = ModelSpec(output_stride=32 if is_boxes else 16), replace(RECIPE, epochs=1, batch_size=4)
    spec = CellSpec(model, data, recipe, task=task, head=HEADS[task], backbone=backbone)
    result = train(spec=spec, root=root)
    assert 0 <= result.metrics["test/map50" if is_boxes else "test/miou"] <= 1
    assert result.metrics["deployed/params"] > 1e5
    weights, task_of = load_file(result.weights), build_task(spec)
    network = task_of.build_network().eval()
    network.load_state_dict(weights)
    assert any("backbone.features" in name for name in weights)
    with torch.inference_mode():
        images = torch.randn(2, 3, 64, 64)
        expected, exported = network(images), task_of.exportable(network, 64)(images)
        if is_boxes:
            [first, _] = task_of.predictions(expected, images)
            assert len(exported[0]) == 2
            assert len(first["boxes"])
        else:
            torch.testing.assert_close(exported, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("task", HEADS)
def test_a_learning_rate_of_the_head_and_frozen_norms(task):
    spec = cell_of(task)
    network = build_task(spec).build_network()
    groups = build_optimizer(network, spec.recipe).param_groups
    head = {id(p) for n, p in network.named_parameters() if n.startswith("head.")}
    assert {id(p) for group in groups if group.get("factor") == 2.0 for p in group["params"]} == head
    freeze(network.train(), replace(RECIPE, init="0" * 16, frozen_norm=True, frozen_stages=1))
    norms = [m for m in network.backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    assert not any(norm.training or norm.weight.requires_grad for norm in norms)
    assert not any(p.requires_grad for p in network.backbone.stages[0].parameters())
    assert network.backbone.stages[1][0].conv_kxk[0].conv.weight.requires_grad
    assert all(m.training for m in network.head.modules() if isinstance(m, nn.BatchNorm2d))


@pytest.mark.parametrize("task", HEADS)
def test_a_backbone_starts_from_a_classifier_or_from_another_detector(task, tmp_path):
    torch.manual_seed(1)
    sources = {"classifier": build_model(MODEL, 7), "other": build_task(cell_of(task)).build_network()}
    for name, source in sources.items():
        torch.save(source.state_dict(), tmp_path / name)
        network = build_task(cell_of(task)).build_network()
        head = network.head.state_dict()["aspp.convs.0.0.weight" if task == "segmentation" else "extra.0.0.0.weight"]
        before, digest = head.clone(), weights_digest(tmp_path / name)
        load_initial(network, Recipe(init=digest), tmp_path / name)
        wanted = getattr(source, "backbone", source).state_dict()
        assert all(torch.equal(value, wanted[key]) for key, value in network.backbone.state_dict().items())
        assert torch.equal(head, before)


def test_a_librarys_backbone_starts_from_a_file_of_the_whole_network(tmp_path):
    import timm

    torch.manual_seed(1)
    source, path = timm.create_model("mobilenetv3_small_050", in_chans=1), tmp_path / "timm.pth"
    torch.save(source.state_dict(), path)
    spec = cell_of("detection", backbone="timm:mobilenetv3_small_050")
    network = build_task(spec).build_network()
    load_initial(network, Recipe(init=weights_digest(path)), path)
    state = source.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in network.backbone.features.state_dict().items())
    torch.save({"conv_stem.weight": state["conv_stem.weight"]}, path)
    with pytest.raises(InputError, match=r"init: .* is not allowed; a file with bn1\.weight"):
        load_initial(network, Recipe(init=weights_digest(path)), path)


def test_pretraining_is_a_classification_cell_of_the_items():
    spec = cell_of("segmentation", seed=3)
    first = pretraining_cell(spec)
    assert (first.task, first.data, first.recipe, first.seed) == (
        "classification",
        CellSpec().data,
        RECIPES["digits"],
        3,
    )
    assert first.model == MODEL
    assert pretraining_cell(cell_of("detection", seed=3)).key == first.key
    with pytest.raises(InputError, match="init: 'classification' is not allowed; MobileOne on scenes"):
        CellSpec(recipe=Recipe(init="classification"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"head": HeadSpec(width=8)}, "head: .* none for classification"),
        ({"task": "detection"}, "data: 'digits' is not allowed; one of scenes"),
    ],
)
def test_what_a_classifier_cannot_have(fields, message):
    with pytest.raises(InputError, match=message):
        CellSpec(**fields)
    with pytest.raises(InputError, match="backbone: 'hub:x' is not allowed; timm:NAME or torchvision:NAME"):
        cell_of("detection", backbone="hub:x")


def test_keys_do_not_move_and_cells_are_read_back():
    assert CellSpec(seed=7).key == "138113176795"
    spec = cell_of("detection", backbone="timm:resnet18")
    assert CellSpec.from_json(spec.to_json()) == spec
    assert spec.changed({"backbone": "small"}).backbone == ""
    assert spec.changed({"backbone": "small"}).model == ModelSpec.preset("small", in_channels=1)
    assert spec.changed({"head.stride": 16}).head.stride == 16


def test_configurations_are_complete():
    for name in ("mobilevit-ssdlite-coco", "mobilevit-deeplab-voc", "cvnets-deeplab-ade20k"):
        assert name in RECIPES
        assert head_preset(name)[0] != HeadSpec()
    assert head_preset("mobilevit-deeplab-voc") == (HeadSpec(width=512, dropout=0.1, aux_weight=0.4), 8)
    assert head_preset("digits") == (HeadSpec(), 32)
    ends = {"mobilevit-ssdlite-coco": 1e-6, "mobilevit-deeplab-voc": 1e-6, "cvnets-deeplab-ade20k": 1e-4}
    assert {name: RECIPES[name].lr_end for name in ends} == ends
