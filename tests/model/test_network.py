import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mobileone_core.errors import InputError
from mobileone_core.model.blocks import MobileOneBlock
from mobileone_core.model.cost import model_cost
from mobileone_core.model.network import build_model, set_execution
from mobileone_core.model.reparam import reparameterize
from mobileone_core.model.spec import BlockSpec, ModelSpec
from mobileone_core.model.weights import load_weights


@pytest.mark.parametrize("variant", ["s0", "s4", "tiny"])
def test_feature_maps_at_every_stride(variant):
    spec = ModelSpec.preset(variant)
    model = build_model(spec, num_classes=7).eval()
    with torch.no_grad():
        maps = model.forward_features(torch.randn(1, 3, 64, 64))
    strides = (2, 2, 4, 8, 8) if variant == "tiny" else (2, 4, 8, 16, 32)
    widths = (spec.stem_width, *spec.widths)
    assert [tuple(m.shape) for m in maps] == [(1, w, 64 // s, 64 // s) for w, s in zip(widths, strides, strict=True)]


@pytest.mark.slow
@pytest.mark.parametrize("output_stride", [16, 8, 4])
@pytest.mark.parametrize("size", [64, 75])
def test_a_dilated_network_repeats_the_strided_one_with_its_weights(output_stride, size, randomize, relative_error):
    """At every second or fourth pixel outputs are those of the strided network, as in the algorithme a trous."""
    spec = ModelSpec.preset("s0", k=2, depths=(1, 2, 2, 2), widths=(8, 16, 16, 24))
    strided = randomize(build_model(spec, 3)).double().eval()
    dilated = randomize(build_model(spec.changed(output_stride=output_stride), 3)).double().eval()  # for eps
    load_weights(dilated, strided.state_dict())
    images = torch.randn(2, 3, size, size, dtype=torch.float64)
    with torch.no_grad():
        expected, actual = strided.forward_features(images), dilated.forward_features(images)
        assert relative_error(reparameterize(dilated)(images), dilated(images)) <= 1e-9
        assert list(dilated.feature_maps(images)) == [f"stride{2**n}" for n in range(1, 5) if 2**n <= output_stride]
    for features, wanted, stride in zip(actual, expected, spec.feature_strides, strict=True):
        step = stride // min(stride, output_stride)
        torch.testing.assert_close(features[..., ::step, ::step], wanted, rtol=1e-9, atol=1e-9)


def test_logits_come_from_the_last_map():
    model = build_model("tiny", num_classes=7).eval()
    x = torch.randn(2, 3, 32, 32)
    logits = F.linear(model.forward_features(x)[-1].mean((2, 3)), model.head.fc.weight, model.head.fc.bias)
    torch.testing.assert_close(model(x), logits)
    assert logits.shape == (2, 7)


def test_other_input_channels():
    model = build_model(ModelSpec.preset("tiny", in_channels=1), num_classes=10)
    assert model(torch.randn(2, 1, 32, 32)).shape == (2, 10)


def test_a_variant_name_is_its_preset():
    assert build_model("tiny", 10).spec == ModelSpec.preset("tiny")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("s9",), "variant: 's9' is not allowed"),
        ((None,), "spec: None is not allowed"),
        (("tiny", -1), "num_classes: -1 is not allowed; an integer of 0 or more"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(InputError, match=message):
        build_model(*arguments)


@pytest.mark.parametrize("with_se", [False, True])
def test_a_block_sums_its_branches_then_se_then_the_activation(with_se, relative_error):
    torch.manual_seed(0)
    spec = BlockSpec(16, 16, 3, 1, 16, k=3, reparam=True, se=with_se)
    block, x = MobileOneBlock(spec, "silu").double().train(), torch.randn(4, 16, 6, 6, dtype=torch.float64)

    def normalized(values, bn):
        return F.batch_norm(values, None, None, bn.weight, bn.bias, training=True, eps=bn.eps)

    total = normalized(x, block.identity)
    total = total + normalized(F.conv2d(x, block.conv_scale.conv.weight, groups=16), block.conv_scale.bn)
    for branch in block.conv_kxk:
        total = total + normalized(F.conv2d(x, branch.conv.weight, padding=1, groups=16), branch.bn)
    gated = block.attn(total) if with_se else total
    assert relative_error(block(x), gated * gated.sigmoid()) < 1e-12


def test_reparam_off_is_one_conv_bn_a_block():
    model = build_model(ModelSpec.preset("tiny", reparam=False))
    convs = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    blocks = [m for m in model.modules() if isinstance(m, MobileOneBlock)]
    assert len(convs) == len(norms) == len(blocks) == 1 + 2 * 5


def test_initial_values_are_pytorchs_own():
    torch.manual_seed(0)
    model = build_model("tiny")
    branch = model.stages[2][1].conv_kxk[0]  # pointwise, 32 to 64 channels
    assert 0.95 < branch.conv.weight.abs().max().item() * 32**0.5 <= 1
    assert torch.equal(branch.bn.weight, torch.ones(64))
    assert 0.95 < model.head.fc.weight.abs().max().item() * 128**0.5 <= 1


def test_no_classes_give_pooled_features(randomize, tiny):
    model, features = randomize(build_model(tiny(), 10)).eval(), build_model(tiny(), 0).eval()
    assert load_weights(features, model.state_dict()).head == "none"
    for part, other in zip(model.modules(), features.modules(), strict=True):
        if isinstance(part, torch.nn.BatchNorm2d):
            other.eps = part.eps
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        pooled = features(x)
        assert torch.equal(model.head.fc(pooled), model(x))
        assert torch.equal(features(x), pooled)
    deployed = reparameterize(features)
    load_weights(deployed, model.state_dict())
    assert deployed(x).shape == (2, 128)
    costs = model_cost(tiny(), 32, 0), model_cost(tiny(), 32, 10)
    assert costs[1].deployed.params - costs[0].deployed.params == 1290


def test_integers_of_numpy_are_integers():
    model = build_model("tiny", np.int64(10))
    assert type(model.num_classes) is int
    spec = ModelSpec.preset("tiny", k=np.int64(2), widths=tuple(np.array([8, 16, 24, 32])), reparam=np.bool_(True))
    assert repr(spec) == repr(ModelSpec.preset("tiny", k=2, widths=(8, 16, 24, 32)))
    for wrong in (True, np.bool_(True), 2.0, np.float64(2), "2", -1, np.array([2])):
        with pytest.raises(InputError, match="num_classes: "):
            build_model("tiny", wrong)


@pytest.mark.parametrize("method", ["acnet", "expandnet", "dbb"])
def test_a_method_trains_alike_by_any_execution(method):
    """Logits and gradients of all branches are those of explicit branches, whatever auto folds."""
    torch.manual_seed(0)
    model = build_model(ModelSpec.preset("tiny", block_method=method).changed(widths=(8, 8, 16, 16)), 5).double()
    images, results = torch.randn(3, 3, 32, 32, dtype=torch.float64), []
    for execution in ("branches", "folded", "auto"):
        network = set_execution(copy.deepcopy(model), execution).train()
        logits = network(images)
        F.cross_entropy(logits, torch.arange(3)).backward()
        results.append([logits.detach(), *(value.grad for value in network.parameters()), *network.buffers()])
    for other in results[1:]:
        for ours, theirs in zip(other, results[0], strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-9)
