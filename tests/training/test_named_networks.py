"""Classifiers by name: the grammar, one's own code and its digest, grey images, and cells that train them expanded."""

import dataclasses
import hashlib
import json
from contextlib import nullcontext
from types import SimpleNamespace
from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn
from torchvision import models

from mobileone_core.cli.commands.export import export
from mobileone_core.cli.commands.source import open_source
from mobileone_core.cli.options.network import Export, NetworkOptions
from mobileone_core.data.spec import DataSpec
from mobileone_core.errors import InputError
from mobileone_core.model.reparam import expand
from mobileone_core.model.spec import BLOCK_METHODS, ModelSpec
from mobileone_core.onnx.scheme import Quantization
from mobileone_core.study.plan import Plan
from mobileone_core.study.record.loading import run_network
from mobileone_core.study.record.reading import FinishedRun
from mobileone_core.training.cell import CellSpec, teacher_cell
from mobileone_core.training.evaluate import cell_network
from mobileone_core.training.model_card import read_card
from mobileone_core.training.named_networks import Expansion, classifier_by_name, pinned, read_name
from mobileone_core.training.observer import TrainingStopped
from mobileone_core.training.recipe import Teacher
from mobileone_core.training.recipe_presets import recipe_preset
from mobileone_core.training.tasks.task import build_task

GREY = ModelSpec(in_channels=1)
CODE = """
from torch import nn

class Small(nn.Sequential):
    pass

def small(num_classes, width=8):
    blocks = [(3, width), (width, 2 * width)]
    layers = [[nn.Conv2d(a, b, 3, 2, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU()] for a, b in blocks]
    pool = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.1), nn.Linear(2 * width, num_classes)]
    return Small(*sum(layers, []), *pool)

def bare(num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(1024, num_classes))

def broken(num_classes):
    raise RuntimeError("two\\nlines")

def none(num_classes):
    return None

def wrong(num_classes):
    return small(num_classes + 1)

class Auxiliary(Small):
    def forward(self, x):
        logits = super().forward(x)
        return (logits, logits) if self.training else logits

def auxiliary(num_classes):
    return Auxiliary(*small(num_classes))
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A module of networks in the current directory, under a name that no other test has imported."""
    name = f"nets_{hashlib.sha256(str(tmp_path).encode()).hexdigest()[:12]}"
    (tmp_path / f"{name}.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("timm:resnet10t", ("timm", "resnet10t", {}, "")),
        ("timm:a(channels=[8, 16], norm='bn')", ("timm", "a", {"channels": [8, 16], "norm": "bn"}, "")),
        ("my.nets:small(width=-0.5)@0123abcd", ("my.nets", "small", {"width": -0.5}, "0123abcd")),
        ("nets:small()", ("nets", "small", {}, "")),
    ],
)
def test_a_name_is_read(text, parts):
    assert read_name("backbone", text) == parts


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.from_regex(r"a[a-z0-9_]{0,6}_", fullmatch=True), values, max_size=4))
def test_literals_come_back(arguments):
    call = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    assert read_name("backbone", f"nets:small({call})")[2] == arguments


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused_in_one_line(text):
    try:
        read_name("backbone", text)
    except InputError as error:
        assert "\n" not in str(error)  # noqa: PT017


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("small", "timm:NAME, torchvision:NAME or MODULE:FUNCTION"),
        ("nets:", "timm:NAME"),
        ("nets:f(8)", "with arguments like"),
        ("nets:f(**{'a': 1})", "with arguments like"),
        ("nets:f(a=open('x'))", "with arguments like"),
        ("nets:f(a=1)(b=2)", "with arguments like"),
        ("nets:f(a=__import__('os').getcwd())", "with arguments like"),
        ("nets:f(a=1, a=2)", "with arguments like"),
        ("nets:f(a=" + "(" * 500 + ")" * 500 + ")", "with arguments like"),
        ("timm:resnet18(checkpoint_path='x')", "no checkpoint_path: networks start at random"),
        ("os:system(command='true')", "a module of networks, not one of Python's"),
        ("subprocess.x:run", "not one of Python's"),
    ],
)
def test_other_names_are_refused(text, message):
    with pytest.raises(InputError, match=r"^backbone: ") as caught:
        CellSpec(GREY, backbone=text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_expansion_offers_every_method_and_keeps_keys():
    offered = get_args(next(item.type for item in dataclasses.fields(Expansion) if item.name == "method"))
    assert offered == ("none", *BLOCK_METHODS)
    assert CellSpec(seed=7).key == "138113176795"
    assert "expand" not in json.loads(CellSpec(GREY, backbone="timm:resnet10t").to_json())
    assert Expansion("acnet", k=2) == Expansion("acnet")
    cell = CellSpec(GREY, backbone="nets:f(a=[1, 2])", expand=Expansion("mobileone", 2))
    assert CellSpec.from_json(cell.to_json()) == cell
    methods = (Expansion(), Expansion("mobileone", 2), Expansion("acnet"))
    assert len({CellSpec(GREY, backbone="timm:a", expand=method).key for method in methods}) == 3


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"expand": Expansion("mobileone")}, "expand: 'mobileone' is not allowed; none; only a classifier by name"),
        ({"backbone": "timm:a", "quantization": Quantization("full")}, "only MobileOne classifiers"),
        ({"backbone": "timm:a", "recipe": dataclasses.replace(recipe_preset("digits"), init="0" * 16)}, "init: "),
        ({"backbone": "timm:a", "recipe": dataclasses.replace(recipe_preset("digits"), head_lr_factor=2.0)}, "head_lr"),
    ],
)
def test_what_a_network_by_name_would_ignore_is_refused(fields, message):
    with pytest.raises(InputError) as caught:
        CellSpec(**fields)
    assert message in str(caught.value)


def test_a_teacher_is_of_its_own_kind():
    recipe = dataclasses.replace(recipe_preset("digits"), teachers=(Teacher("tiny"),))
    student = CellSpec(GREY, backbone="timm:resnet10t", recipe=recipe, expand=Expansion("mobileone"))
    teacher = teacher_cell(student, Teacher("tiny"))
    assert (teacher.backbone, teacher.expand) == ("", Expansion())


def test_own_code_is_part_of_the_name(own, tmp_path):
    digest = hashlib.sha256(CODE.encode()).hexdigest()[:8]
    named = pinned("networks", f"{own}:small(width=4)")
    assert named == f"{own}:small(width=4)@{digest}"
    assert pinned("networks", named) == named
    for other in ("tiny", "timm:resnet10t", "torchvision.models:ShuffleNetV2"):
        assert pinned("networks", other) == other
    (tmp_path / f"{own}.py").write_text(CODE + "#")
    with pytest.raises(InputError, match=f"{own}.py has changed: its SHA-256 begins with "):
        classifier_by_name("networks", named, 10, (1, 1, 32, 32))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("{}:broken", "cannot be built: two lines"),
        ("{}:absent", "cannot be built: module '"),
        ("{}:small(depth=3)", "unexpected keyword argument 'depth'"),
        ("{}:none", "a function that returns a torch.nn.Module"),
        ("{}:wrong", "are no finite logits of 10 classes"),
        ("{}:auxiliary", "are no finite logits of 10 classes"),
        ("no_such_nets:small", "a module in the current directory or on PYTHONPATH"),
        ("timm:no_such", "a network that timm lists"),
        ("torchvision:resnet18(depth=3)", "cannot be built: "),
    ],
)
def test_what_cannot_be_built_is_said_in_one_line(own, name, message):
    with pytest.raises(InputError, match=r"^backbone: ") as caught:
        classifier_by_name("backbone", name.format(own), 10, (1, 1, 32, 32))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_network_of_one_size_is_refused_before_its_recipe_starts():
    """At planning, not in the cell's first step at another size of its phases or scales."""
    recipe = dataclasses.replace(recipe_preset("digits"), scales=(16, 32))
    names = "test_efficientnet", "vit_tiny_patch16_224(depth=1, embed_dim=16, num_heads=1)"
    cells = [CellSpec(GREY, recipe=recipe, backbone=f"timm:{name}") for name in names]
    message = r"^backbone: timm:vit_tiny.* cannot read images of 1 x 16 x 16: .*\(16\)"
    for number, expected in enumerate((nullcontext(), pytest.raises(InputError, match=message))):
        with expected:
            Plan.require_runnable(SimpleNamespace(cells=[SimpleNamespace(spec=cells[number])]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone": "torchvision:squeezenet1_0"}, "squeezenet1_0 cannot read images of 1 x 8 x 8: "),
        ({"backbone": "timm:vit_tiny_patch16_224", "task": "detection"}, r"AssertionError .* match model .224"),
    ],
    ids=["classifier", "detector"],
)
def test_a_network_that_cannot_read_the_images_is_refused_before_its_cell_starts(changes, message):
    name = "scenes" if "task" in changes else "digits"
    recipe = dataclasses.replace(recipe_preset("digits"), augmentation="none")
    spec = CellSpec(GREY, DataSpec(name, 8), recipe, **changes)
    with pytest.raises(InputError, match=f"^backbone: .*{message}"):
        Plan.require_runnable(SimpleNamespace(cells=[SimpleNamespace(spec=spec)]))


def test_a_colour_network_sees_grey_as_three_equal_channels():
    torch.manual_seed(0)
    colour = models.shufflenet_v2_x0_5(num_classes=10).eval()
    torch.manual_seed(0)
    grey = classifier_by_name("backbone", "torchvision:shufflenet_v2_x0_5", 10, (1, 1, 32, 32))
    assert grey.training
    images = torch.randn(2, 1, 32, 32)
    torch.testing.assert_close(grey.eval()(images), colour(images.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-5)


def test_plain_and_expanded_start_from_the_same_weights(own):
    networks = []
    for expansion in (Expansion(), Expansion("mobileone", 2)):
        torch.manual_seed(3)
        spec = CellSpec(GREY, backbone=f"{own}:small", expand=expansion)
        networks.append(build_task(spec).build_network().eval())
    plain, expanded = networks
    images = torch.randn(2, 1, 32, 32)
    torch.testing.assert_close(expanded(images), plain(images))
    assert len(expanded.state_dict()) > len(plain.state_dict())


def test_a_network_without_convolutions_to_take_is_not_called_expanded(own):
    spec = CellSpec(GREY, backbone=f"{own}:bare", expand=Expansion("mobileone"))
    with pytest.raises(InputError, match="expand: 'mobileone' is not allowed; none: it takes no convolution of"):
        build_task(spec).build_network()


@pytest.mark.slow
def test_an_expanded_cell_trains_resumes_to_the_bit_and_deploys_the_plain_network(own, train, memory, tmp_path):
    spec = CellSpec(GREY, backbone=pinned("backbone", f"{own}:small"), expand=Expansion("mobileone", 2))
    spec = dataclasses.replace(spec, recipe=dataclasses.replace(recipe_preset("digits"), epochs=3, batch_size=128))
    whole = train("whole", spec=spec)
    with pytest.raises(TrainingStopped):
        train("parts", memory(after_batch=14), spec=spec)
    parts = train("parts", spec=spec)
    same = {name: value for name, value in whole.metrics.items() if not name.startswith("time/")}
    assert same == {name: value for name, value in parts.metrics.items() if not name.startswith("time/")}
    state = load_file(whole.weights)
    assert all(torch.equal(value, state[name]) for name, value in load_file(parts.weights).items())
    assert whole.metrics["deployed/as_plain"] == 1
    assert whole.metrics["test/form_difference_relative"] < 1e-5
    train_form, deployed = (cell_network(spec, load_file(whole.weights), form) for form in ("train", "deployed"))
    plain = build_task(dataclasses.replace(spec, expand=Expansion())).build_network()
    plain.load_state_dict(deployed.state_dict())
    assert type(deployed).__name__ == "Small"
    assert whole.metrics["deployed/params"] == sum(value.numel() for value in plain.parameters())
    convs = [module for module in plain.modules() if isinstance(module, nn.Conv2d)]
    pixels = [16 * 16, 8 * 8]
    macs = sum(conv.weight.numel() * count for conv, count in zip(convs, pixels, strict=True)) + 16 * 10
    assert whole.metrics["deployed/macs"] == macs
    images = torch.randn(4, 1, 32, 32)
    torch.testing.assert_close(plain.eval()(images), train_form(images), rtol=1e-4, atol=1e-5)
    options = NetworkOptions(weights=whole.weights)
    source = open_source(options, "deployed", say=lambda _: None)
    assert torch.equal(source.network(images), deployed(images))
    with pytest.raises(InputError, match="no Small, for it is no MobileOne; load_run returns it folded"):
        export(Export(weights=whole.weights, output=tmp_path / "small.onnx"))
    loaded = run_network(FinishedRun("0123", read_card(whole.weights), whole.weights, {}, ""), "deployed")
    assert torch.equal(loaded(images), deployed(images))
    assert (loaded.run_id, len(loaded.class_names), loaded.transform.image_size) == ("0123", 10, 32)
    expanded = expand(build_task(dataclasses.replace(spec, expand=Expansion())).build_network(), 2)
    expanded.load_state_dict(state)
    assert torch.equal(expanded.eval()(images), train_form(images))
