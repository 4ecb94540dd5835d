"""Checkpoints as training programs write them: which weights are taken, and what is said about it."""

import argparse
import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mobileone_core.errors import InputError
from mobileone_core.model.network import build_model
from mobileone_core.model.reparam import reparameterize
from mobileone_core.model.weights import load_weights


def prefixed(state, prefix):
    return {f"{prefix}{name}": value for name, value in state.items()}


def swa(state):
    return {"n_averaged": torch.tensor(3), **prefixed(state, "module.")}


# file contents by (averaged or only weights, raw weights), and the name of the set that evaluations take
BOTH = {
    "timm": (lambda ema, raw: {"state_dict": raw, "state_dict_ema": ema, "arch": "s0"}, "state_dict_ema", "state_dict"),
    "torchvision": (lambda ema, raw: {"model": raw, "model_ema": swa(ema)}, "model_ema", "model"),
    "with the count of updates": (lambda ema, raw: {"model": raw, "ema": (ema, 7)}, "ema", "model"),
    "tutorial": (
        lambda ema, raw: {"model_state_dict": raw, "ema_state_dict": ema},
        "ema_state_dict",
        "model_state_dict",
    ),
    "last.ckpt": (
        lambda ema, raw: {"state_dict": prefixed(raw, "network.") | prefixed(ema, "averaged.module.")},
        "state_dict/averaged",
        "state_dict/network",
    ),
    "ema-pytorch": (
        lambda ema, raw: {
            "ema": {**prefixed(raw, "online_model."), **prefixed(ema, "ema_model."), "step": torch.ones(1)}
        },
        "ema/ema_model",
        "ema/online_model",
    ),
    "Lightning's WeightAveraging": (
        lambda ema, raw: {
            "state_dict": prefixed(ema, "model."),
            "current_model_state": prefixed(raw, "model."),
            "averaging_state": {"n_averaged": torch.tensor(3)},
        },
        "state_dict/model",
        "current_model_state/model",
    ),
    "MMEngine's EMAHook": (
        lambda ema, raw: {
            "meta": {"mmengine_version": "0.10"},
            "state_dict": ema,
            "ema_state_dict": {"steps": torch.tensor(3), **prefixed(raw, "module.")},
        },
        "state_dict",
        "ema_state_dict",
    ),
}
MOMENTS = {"head.fc.bias": torch.full((10,), 9.0)}
ONE = {
    "AveragedModel": swa,
    "namespace": lambda state: {
        "state_dict": state,
        "args": argparse.Namespace(lr=0.1, output=Path("out")),
        "epoch": 1,
    },
    "best accuracy": lambda state: {"state_dict": state, "best_acc1": np.float64(90.5), "epoch": np.int64(3)},
    "net": lambda state: {"net": state, "acc": 90.0},
    "nested": lambda state: {"checkpoint": {"model": {"weights": state}}},
    "Lightning": lambda state: {"state_dict": {**prefixed(state, "model."), "criterion.weight": torch.ones(10)}},
    "backbone.": lambda state: prefixed(state, "backbone."),
    "head outside": lambda state: {
        name if name.startswith("head.") else f"backbone.{name}": value for name, value in state.items()
    },
    "wrapped blocks": lambda state: {
        name.replace("stages.1.", "stages.1._orig_mod.module."): value for name, value in state.items()
    },
    "before torch 0.4.1": lambda state: {name: value for name, value in state.items() if "num_batches" not in name},
    "thop": lambda state: {**state, "total_ops": torch.zeros(1), "stem.total_params": torch.zeros(1)},
    "optimizer by names": lambda state: {"model": state, "optimizer": {"state": {key: {"step": 1} for key in state}}},
    "moments by names": lambda state: {"model": state, "optimizer": {"exp_avg": prefixed(state, "") | MOMENTS}},
    "DeepSpeed's shapes": lambda state: {
        "module": state,
        "param_shapes": [{name: value.shape for name, value in state.items()}],
    },
    "Lightning's StochasticWeightAveraging": lambda state: {
        "state_dict": state,  # its other network's statistics are old
        "callbacks": {"StochasticWeightAveraging": {"average_model_state": {**state, **MOMENTS}}},
    },
    "numbers among weights": lambda state: {**state, "epoch": 3},
}


@pytest.fixture
def raw(randomize, model):
    torch.manual_seed(1)
    return randomize(build_model(model.spec, 10), seed=1).eval()


@pytest.fixture
def file(tmp_path):
    return tmp_path / "f.pth"


@pytest.mark.slow
@pytest.mark.parametrize("kind", BOTH)
def test_averaged_weights_are_taken_and_the_caller_is_told(kind, model, raw, same, file, caplog):  # noqa: PLR0917
    content, averaged, other = BOTH[kind]
    torch.save(content(model.state_dict(), raw.state_dict()), file)
    target = build_model(model.spec, 10)
    loaded = load_weights(target, file)
    assert same(target, model)
    assert (loaded.name, loaded.averaged) == (averaged, True)
    assert caplog.messages == [f"load_weights: averaged weights {averaged} of {file}, which also holds {other}"]
    assert loaded.others == (other,)
    caplog.clear()
    for which in ("model", other):
        assert not load_weights(target, file, which=which).averaged
        assert same(target, raw)
    assert load_weights(target, file, which="ema").name == averaged
    assert not caplog.messages


def test_safetensors_under_another_name(model, same, file):
    save_file(model.state_dict(), file)
    target = build_model(model.spec, 10)
    load_weights(target, file)
    assert same(target, model)


@pytest.mark.parametrize("kind", ONE)
def test_one_set_is_read_without_a_line(kind, model, same, file, caplog):
    torch.save(ONE[kind](model.state_dict()), file)
    target = build_model(model.spec, 10)
    loaded = load_weights(target, file)
    assert same(target, model)
    assert loaded.averaged == (kind == "AveragedModel")
    assert not caplog.messages


@pytest.mark.parametrize(
    ("names", "which", "allowed"),
    [
        (("student", "teacher"), "auto", "the state dict holds several: name one of {}, {}"),
        (("student", "teacher"), "ema", "the state dict holds {} (not averaged), {} (not averaged)"),
        (("model", "ema"), "best", "auto, ema, model or a set of the state dict: {}, {}"),
    ],
)
def test_sets_that_cannot_be_chosen_are_named(names, which, allowed, model, refused):
    content = dict.fromkeys(names, model.state_dict())
    message = f"which: {which!r} is not allowed; {allowed.format(*names)}"
    assert refused(content, which=which) == message


def in_mmpretrain(state):
    """Our names as mmpretrain's ImageClassifier has them; its head is a LinearClsHead."""
    parts = {
        "stem": "stage0", "conv_kxk": "branch_conv_list", "conv_scale": "branch_scale", "identity": "branch_norm",
        "reparam_conv": "branch_reparam", "bn": "norm", "fc1": "conv1.conv", "fc2": "conv2.conv", "attn": "se",
    }  # fmt: skip
    for name, value in state.items():
        if name.startswith("head."):
            yield name, value
            continue
        if name.startswith("stages."):
            _, number, rest = name.split(".", 2)
            theirs = f"stage{int(number) + 1}.{rest}"
        else:
            theirs = name
        yield "backbone." + ".".join(parts.get(part, part) for part in theirs.split(".")), value


@pytest.mark.parametrize("deployed", [False, True])
def test_mmpretrains_layout(model, deployed, same):
    source = reparameterize(model) if deployed else model
    state = dict(in_mmpretrain(source.state_dict()))
    name = "backbone.stage3.1.branch_" + ("reparam.weight" if deployed else "conv_list.2.norm.running_var")
    assert name in state
    target = reparameterize(build_model(model.spec, 10).eval()) if deployed else build_model(model.spec, 10)
    load_weights(target, {"meta": {}, "state_dict": state})
    assert same(target, source)


def test_another_number_of_classes_leaves_the_head(model, tiny, refused):
    target = build_model(tiny(), 4)
    assert refused(model.state_dict(), target).endswith("; head='new' keeps the model's own classifier")
    before = target.head.fc.weight.clone()
    loaded = load_weights(target, {"model": model.state_dict()}, head="new")
    assert str(loaded) == "weights model of the state dict; the head is new: its classifier has 10 classes"
    assert torch.equal(target.head.fc.weight, before)
    assert torch.equal(target.stages[3][1].conv_kxk[2].bn.bias, model.stages[3][1].conv_kxk[2].bn.bias)
    backbone = {name: value for name, value in model.state_dict().items() if not name.startswith("head.")}
    assert "2 missing: head.fc.weight, head.fc.bias; head='new'" in refused(backbone)
    assert load_weights(target, backbone, head="new").head == "new"


def fold(network, *names):
    for name in names:
        network.set_submodule(name, reparameterize(network.get_submodule(name)))
    return network


@pytest.mark.parametrize("names", [("stem",), ("stages.1.0", "stages.3.1")])
def test_partly_folded_networks(model, names, tiny, same, refused):
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = 1e-5  # no part of a file
    partly = fold(build_model(tiny(), 10).eval(), *names)
    load_weights(partly, model.state_dict())  # a file in train form: folded where the network is
    assert same(partly, fold(copy.deepcopy(model), *names))
    whole = reparameterize(build_model(tiny(), 10).eval())
    load_weights(whole, partly.state_dict())  # a partly folded file: the rest is folded
    assert same(whole, reparameterize(partly))
    message = refused(partly.state_dict(), build_model(tiny(), 10))
    which = ", ".join(names)
    form = f"it contains the deployed form of {which}, without branches; the model is in train form"
    assert message == f"the state dict: {form}"
    state = model.state_dict() | {"head.fc.bias": torch.zeros(3)}
    assert "1 of another shape: head.fc.bias" in refused(state, partly)


def test_a_network_without_memory_is_refused(model, tiny):
    with torch.device("meta"):
        target = build_model(tiny(), 10)
    with pytest.raises(InputError, match="model: it is on the meta device"):
        load_weights(target, model.state_dict())
    with pytest.raises(InputError, match="model: 'DataParallel' is not allowed; a MobileOne, without wrappers"):
        load_weights(torch.nn.DataParallel(model), model.state_dict())
