"""SSDLite and DeepLabV3 against torchvision's own, with its weights; backbones of both libraries."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn
from torchvision.models import mobilenet_v3_large
from torchvision.models.detection import ssdlite320_mobilenet_v3_large
from torchvision.models.segmentation import deeplabv3_mobilenet_v3_large

from mobileone_core.data.spec import DataSpec
from mobileone_core.errors import InputError
from mobileone_core.model.reparam import reparameterize
from mobileone_core.model.spec import ModelSpec
from mobileone_core.training.cell import CellSpec
from mobileone_core.training.head import HEADS, HeadSpec
from mobileone_core.training.recipe import Recipe
from mobileone_core.training.tasks.backbones import LibraryBackbone, build_backbone, feature_extractor
from mobileone_core.training.tasks.detection import Detection, SSDLite
from mobileone_core.training.tasks.segmentation import DeepLabV3

TINY = ModelSpec.preset("tiny", k=2, stage_strides=(2, 2, 2, 2), in_channels=1)
SCENES = DataSpec("scenes", 64)
TARGETS = [
    {"boxes": torch.tensor([[20.0, 30.0, 180.0, 200.0], [150.0, 10.0, 300.0, 310.0]]), "labels": torch.tensor([1, 4])},
    {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)},
]


def carried(ours, theirs):
    """Load tensors in their order, which is that of the forward pass."""
    state = ours.state_dict()
    values = theirs.state_dict().values()
    ours.load_state_dict(dict(zip(state, values, strict=True)))


def same_norms(ours, theirs):
    pairs = zip(*([m for m in net.modules() if isinstance(m, nn.BatchNorm2d)] for net in (ours, theirs)), strict=True)
    for mine, other in pairs:
        mine.eps, mine.momentum = other.eps, other.momentum


@pytest.mark.slow
def test_ssdlite_is_torchvisions():
    torch.manual_seed(0)
    theirs = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=5)
    norm = partial(nn.BatchNorm2d, eps=0.001, momentum=0.03)
    nodes = ["features.13.block.0", "features.16"]
    features = feature_extractor(mobilenet_v3_large(norm_layer=norm, reduced_tail=True), nodes)
    ours = SSDLite(LibraryBackbone(features), HeadSpec(), 4)
    carried(ours.backbone, theirs.backbone.features)
    carried(ours.head.extra, theirs.backbone.extra)
    carried(ours.head.predict, theirs.head)
    same_norms(ours, theirs)
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())
    images = torch.rand(2, 3, 320, 320)
    task = Detection(cell("detection"))
    losses = theirs.train()(list(images), TARGETS)
    assert task.loss(ours.train()((images - 0.5) / 0.5), TARGETS).item() == pytest.approx(sum(losses.values()).item())
    with torch.no_grad():
        expected, raw = theirs.eval()(list(images)), ours.eval()((images - 0.5) / 0.5)
        actual = task.predictions(raw, images)
    assert len(expected[0]["boxes"]) > 10
    for mine, other in zip(actual, expected, strict=True):
        assert mine.keys() == other.keys()
        assert all(torch.allclose(mine[name].double(), other[name].double(), atol=1e-3) for name in mine)


@pytest.mark.slow
def test_deeplab_is_torchvisions():
    torch.manual_seed(0)
    theirs = deeplabv3_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=5, aux_loss=True)
    features = feature_extractor(mobilenet_v3_large(dilated=True), ["features.4", "features.16"])
    ours = DeepLabV3(LibraryBackbone(features), HeadSpec(aux_weight=0.4), 5)
    carried(ours.backbone, theirs.backbone)
    carried(ours.head.aspp, theirs.classifier[0])
    carried(ours.head.classify, nn.Sequential(*list(theirs.classifier)[1:]))
    carried(ours.head.aux, theirs.aux_classifier)
    same_norms(ours, theirs)
    images = torch.randn(2, 3, 96, 96)
    torch.manual_seed(1)
    expected = theirs.train()(images)
    torch.manual_seed(1)
    for mine, other in zip(ours.train()(images), (expected["out"], expected["aux"]), strict=True):
        torch.testing.assert_close(mine, other)
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(images), theirs.eval()(images)["out"])


def cell(task, model=TINY, data=SCENES, **fields):
    data = replace(data, num_classes=10 + (task == "segmentation"))
    return CellSpec(model, data, Recipe(augmentation="none"), task=task, **fields)


def network(task, head):
    spec = cell(task, replace(TINY, output_stride=16), head=head)
    kind = SSDLite if task == "detection" else DeepLabV3
    return kind(build_backbone(spec), head, 10)


@pytest.mark.parametrize(
    ("task", "head"),
    [
        ("detection", HeadSpec(stride=8, extras=(32, 16), scales=(0.1, 0.6, 0.8))),
        ("detection", HeadSpec(8, (24, 16), (32, 8), pooled=True, scales=(0.1, 0.6, 0.8))),
        ("segmentation", HeadSpec(width=16, aux_weight=0.4)),
    ],
)
def test_the_deployed_whole_is_the_trained_one(task, head):
    torch.manual_seed(0)
    net, images = network(task, head), torch.randn(2, 1, 64, 64)
    net.train()(images)
    net.double().eval()
    with torch.no_grad():
        mine, other = net(images.double()), reparameterize(net)(images.double())
    if task == "segmentation":
        assert mine.shape == (2, 10, 64, 64)
        mine, other = {"logits": mine}, {"logits": other}
    else:
        shapes = {name: tuple(value.shape) for name, value in mine.items()}
        boxes = 6 * (8 * 8 + 4 * 4 + 2 * 2) + (4 if head.pooled else 6)
        assert shapes == {"cls_logits": (2, boxes, 11), "bbox_regression": (2, boxes, 4), "anchors": (boxes, 4)}
    for name, value in mine.items():
        torch.testing.assert_close(other[name], value, rtol=1e-9, atol=1e-9)


def test_detections_and_loss_of_a_batch_without_objects():
    head = HeadSpec(stride=8, extras=(32, 16), scales=(0.1, 0.6, 0.8))
    net, task, images = network("detection", head), Detection(cell("detection", head=head)), torch.randn(2, 1, 64, 64)
    outputs = net(images)
    loss = task.loss(outputs, [TARGETS[1], TARGETS[1]])
    assert torch.isfinite(loss)
    found = task.predictions(outputs, images)
    assert all(set(item) == {"boxes", "labels", "scores"} and item["labels"].min() >= 1 for item in found)
    flat = {"boxes": torch.tensor([[1.0, 2.0, 1.0, 5.0]]), "labels": torch.tensor([1])}
    with pytest.raises(InputError, match="boxes"):
        task.loss(outputs, [flat, TARGETS[1]])


def test_a_single_image_is_refused_by_aspp_in_training_alone():
    net = network("segmentation", HeadSpec(width=8))
    with pytest.raises(InputError, match="batch_size: 1 is not allowed; 2 or more"):
        net(torch.randn(1, 1, 64, 64))
    assert net.eval()(torch.randn(1, 1, 64, 64)).shape == (1, 10, 64, 64)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "stride"), [("timm:mobilenetv3_small_050", 16), ("torchvision:resnet18", 32)])
def test_backbones_of_libraries(name, stride):
    model, data = ModelSpec(output_stride=stride), DataSpec("scenes", 64, channels=3)
    backbone = build_backbone(cell("detection", model, data, backbone=name))
    maps = backbone.forward_features(torch.zeros(2, 3, 64, 64))
    assert [item.shape[1] for item in maps] == list(backbone.feature_widths)
    assert [64 // item.shape[2] for item in maps] == list(backbone.feature_strides)
    assert len(maps) == 5
    assert backbone.feature_strides[-1] == stride


@pytest.mark.parametrize(
    ("name", "model", "message"),
    [
        ("timm:no_such", ModelSpec(), "backbone: 'timm:no_such' is not allowed; a network that timm lists"),
        ("torchvision:no_such", ModelSpec(), "a network that torchvision lists"),
        ("torchvision:mobilenet_v2", ModelSpec(output_stride=8), "backbone: 'torchvision:mobilenet_v2' is not allowed"),
        ("timm:vgg11", ModelSpec(output_stride=8), "backbone: 'timm:vgg11' is not allowed; Assertion"),
        ("timm:mobileone_s0", ModelSpec(output_stride=16), "output_stride: 16 is not allowed; 32: timm:mobileone_s0"),
        ("torchvision:mobilenet_v3_small", ModelSpec(output_stride=8), "output_stride: 8 is not allowed; 16: torch"),
    ],
)
def test_backbones_that_do_not_exist_or_do_not_dilate(name, model, message):
    with pytest.raises(InputError, match=message):
        build_backbone(cell("detection", model, DataSpec("scenes", 64, channels=3), backbone=name))


@pytest.mark.parametrize("recipe", HEADS)
def test_heads_of_configurations_can_be_built(recipe):
    head, stride = HEADS[recipe]
    with torch.device("meta"):
        backbone = build_backbone(cell("detection", ModelSpec.preset("s0", output_stride=stride)))
        net = SSDLite(backbone, head, 80) if "ssdlite" in recipe else DeepLabV3(backbone, head, 21)
    assert sum(p.numel() for p in net.head.parameters()) > 1000
