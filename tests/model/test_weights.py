import hashlib
import re

import pytest
import torch

from mobileone_core.errors import InputError
from mobileone_core.model.network import MobileOne, build_model
from mobileone_core.model.reparam import reparameterize
from mobileone_core.model.spec import BLOCK_METHODS, ModelSpec
from mobileone_core.model.weights import export_weights, load_weights

# entries, and SHA-256 of the sorted lines "name shape", of the authors' released code: (variant, deployed form)
RELEASED_NAMES = {
    ("s0", False): (1323, "536fe078a65477ea"),
    ("s0", True): (88, "0b4bfa06d14bf73e"),
    ("s1", False): (562, "cf0d060a31b3d2f0"),
    ("s1", True): (88, "a11f82caf5f52363"),
    ("s2", False): (562, "b0557012cb2db478"),
    ("s2", True): (88, "a1900f6babb595e5"),
    ("s3", False): (562, "1d2dc75e19c56e9c"),
    ("s3", True): (88, "34a499de6a837319"),
    ("s4", False): (610, "686f86d4d5e0453b"),
    ("s4", True): (136, "549d1d2a16d65950"),
}


@pytest.mark.parametrize(("variant", "deployed"), RELEASED_NAMES)
def test_the_apple_layout_has_the_released_names_and_shapes(variant, deployed):
    with torch.device("meta"):
        state = export_weights(MobileOne(ModelSpec.preset(variant), deployed=deployed), layout="apple")
    lines = sorted(f"{name} {tuple(value.shape)}" for name, value in state.items())
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
    assert (len(lines), digest) == RELEASED_NAMES[variant, deployed]


def test_the_apple_layout_part_by_part(model):
    names = set(export_weights(model, layout="apple"))
    assert {
        "stage0.rbr_conv.0.conv.weight",
        "stage0.rbr_scale.bn.running_var",
        "stage3.2.rbr_skip.weight",
        "stage3.3.rbr_conv.3.bn.num_batches_tracked",
        "stage4.1.se.reduce.bias",
        "stage4.1.se.expand.weight",
        "linear.weight",
    } <= names
    assert "stage4.0.reparam_conv.bias" in export_weights(reparameterize(model), layout="apple")


@pytest.mark.parametrize("deployed", [False, True])
@pytest.mark.parametrize("layout", ["own", "apple", "timm"])
def test_every_layout_and_form_round_trips(model, layout, deployed, tiny, same):
    source = reparameterize(model) if deployed else model
    target = MobileOne(tiny(), 10, deployed=deployed).eval()
    load_weights(target, export_weights(source, layout=layout))
    assert same(target, source)


def test_exported_weights_are_a_copy(model):
    state = export_weights(model)
    before = state["head.fc.weight"].clone()
    torch.nn.init.zeros_(model.head.fc.weight)
    assert torch.equal(state["head.fc.weight"], before)


@pytest.mark.parametrize("activation", ["dynamic_relu_b", "dynamic_shift_max"])
def test_our_own_layout_holds_every_network(activation, randomize, tiny, same):
    spec = tiny(activation=activation, reparam=False, se=(1, 0, 2, 0))
    source, target = randomize(build_model(spec, 10)), build_model(spec, 10)
    load_weights(target, export_weights(source))
    assert same(target, source)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("layout", ["own", "apple"])
def test_a_train_form_file_is_folded_into_a_deployed_model(layout, dtype, tiny, same):
    torch.manual_seed(0)
    model = build_model(tiny(), 10).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, -2, 2)
            torch.nn.init.uniform_(module.running_var, 0.1, 2)
    deployed = MobileOne(tiny(), 10, deployed=True).to(dtype).eval()
    load_weights(deployed, export_weights(model, layout=layout))
    assert same(deployed, reparameterize(model.to(dtype)))


def test_a_deployed_file_cannot_become_branches(model, tiny):
    with pytest.raises(InputError, match="the state dict: it contains the deployed form, without branches"):
        load_weights(build_model(tiny(), 10), reparameterize(model).state_dict())


def test_what_does_not_fit_is_named(model, refused):
    state = model.state_dict()
    for name in ("stem.conv_scale.bn.bias", "stages.1.0.conv_kxk.2.conv.weight"):
        del state[name]
    state |= {"stages.9.extra": torch.zeros(1), "head.fc.weight": torch.zeros(5, 128)}
    assert refused(state) == (
        "the state dict does not fit the model: "
        "2 missing: stem.conv_scale.bn.bias, stages.1.0.conv_kxk.2.conv.weight; "
        "1 unexpected: stages.9.extra; "
        "1 of another shape: head.fc.weight (given (5, 128), the model's (10, 128))"
    )


def test_long_lists_are_counted_and_names_are_the_files_own(model, tiny, refused):
    state = export_weights(model, layout="apple")
    smaller = build_model(tiny(k=1), 10)
    message = refused(state, smaller)
    assert message.startswith(
        "the state dict does not fit the model: 180 unexpected: stage1.0.rbr_conv.1.conv.weight, "
    )
    assert message.endswith(" and 177 more")


@pytest.mark.slow
@pytest.mark.parametrize("method", BLOCK_METHODS)
def test_weights_of_every_method_load_in_either_form(method, tiny, same, randomize, relative_error):
    spec = tiny(k=1, block_method=method)
    source = randomize(build_model(spec, 10)).eval()
    target = build_model(spec, 10).eval()
    load_weights(target, source.state_dict())
    assert same(target, source)
    deployed = MobileOne(spec, 10, deployed=True).eval()
    load_weights(deployed, source.state_dict())
    x = torch.randn(2, 3, 32, 32)
    assert relative_error(deployed(x), target(x)) < 1e-3
    assert "linear.weight" in export_weights(deployed, layout="apple")


def test_repvgg_is_mobileone_with_one_branch(tiny, same):
    torch.manual_seed(0)
    repvgg = build_model(tiny(block_method="repvgg"), 10)
    torch.manual_seed(0)
    assert same(repvgg, build_model(tiny(k=1), 10))
    assert "stage0.rbr_conv.0.conv.weight" in export_weights(repvgg, layout="apple")


@pytest.mark.parametrize("method", ["acnet", "dbb", "expandnet"])
def test_weights_of_another_method_are_refused(method, tiny, refused):
    weights = build_model(tiny(k=1), 10).state_dict()
    target = build_model(tiny(k=1, block_method=method), 10)
    assert f"does not fit the model, whose block_method is {method}: " in refused(weights, target)
    assert "missing: " in refused(target.state_dict(), build_model(tiny(), 10))
    with pytest.raises(InputError, match=f"block_method: '{method}' is not allowed; the timm layout needs"):
        export_weights(target, layout="timm")


def test_a_misfit_is_found_before_folding(model, tiny, refused):
    state = model.state_dict()
    del state["head.fc.bias"]
    assert "1 missing: head.fc.bias" in refused(state, MobileOne(tiny(), 10, deployed=True))


def test_integers_are_no_weights(model, refused):
    state = model.state_dict()
    state["head.fc.weight"] = state["head.fc.weight"].long()
    assert "head.fc.weight (given (10, 128) of torch.int64, the model's (10, 128))" in refused(state)


@pytest.mark.parametrize(
    ("changes", "layout", "message"),
    [
        ({"reparam": False}, "timm", "reparam: False is not allowed; the timm layout needs reparam=True in train form"),
        ({"widths": (16, 32, 64, 128), "stage_strides": (2, 2, 2, 2), "output_stride": 8}, "timm", "output_stride: 8"),
        ({"stem_k": 4}, "apple", "stem_k: 4 is not allowed; the apple layout needs stem_k=1 in train form"),
        (
            {"activation": "dynamic_relu_a"},
            "timm",
            "activation: 'dynamic_relu_a' is not allowed; the timm layout cannot hold",
        ),
        ({"se": (1, 0, 0, 0)}, "apple", "se: (1, 0, 0, 0) is not allowed; the apple layout needs 'none' or 'paper'"),
        ({}, "onnx", "layout: 'onnx' is not allowed; one of own, apple, timm"),
    ],
)
def test_what_another_code_cannot_hold_is_not_exported(changes, layout, message, tiny):
    with pytest.raises(InputError) as error:
        export_weights(build_model(tiny(**changes), 10), layout=layout)
    assert str(error.value).startswith(message)


def test_apple_has_four_stages():
    spec = ModelSpec(widths=(8, 8), depths=(1, 1), stage_strides=(2, 2))
    with pytest.raises(InputError, match="the apple layout needs four stages"):
        export_weights(build_model(spec, 10), layout="apple")


def test_without_branches_the_deployed_form_still_exports(tiny):
    model = build_model(tiny(reparam=False), 10).eval()
    assert "stage0.reparam_conv.weight" in export_weights(reparameterize(model), layout="apple")


def test_parameters_as_source_stay_as_they_are():
    model = build_model("tiny", num_classes=4).eval()
    load_weights(reparameterize(model), model.state_dict(keep_vars=True))
    assert {value.dtype for value in model.parameters()} == {torch.float32}


def test_a_tensor_without_content_is_refused_before_anything_is_written():
    model, state = build_model("tiny", num_classes=4), build_model("tiny", num_classes=4).state_dict()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    last = next(reversed(state))
    with pytest.raises(InputError, match=re.escape(last)):
        load_weights(model, {**state, last: state[last].to("meta")})
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("value", "form"),
    [
        (float("nan"), reparameterize),
        (float("inf"), lambda model: model),
        (1e6, lambda model: model.half()),  # which half precision has not
    ],
)
def test_weights_of_a_diverged_training_are_refused_before_anything_is_written(value, form):
    source = build_model("tiny", num_classes=4)
    source.stages[1][0].conv_kxk[0].bn.running_var[0] = value
    model = form(build_model("tiny", num_classes=4).eval())
    before = {name: item.clone() for name, item in model.state_dict().items()}
    with pytest.raises(InputError, match=r"1 with NaN or inf.*: stages\.1\.0\.conv_kxk\.0\.bn\.running_var$"):
        load_weights(model, source.state_dict())
    assert all(torch.equal(item, before[name]) for name, item in model.state_dict().items())
