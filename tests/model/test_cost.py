import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mobileone_core.errors import InputError
from mobileone_core.model.cost import model_cost
from mobileone_core.model.network import MobileOne, build_model
from mobileone_core.model.reparam import reparameterize
from mobileone_core.model.spec import ModelSpec

# counted from the authors' released network: 1000 classes, 224 px
RELEASED = {
    "s0": (5_293_272, 2_078_504, 275_110_400),
    "s1": (4_825_192, 4_764_840, 825_057_024),
    "s2": (7_884_648, 7_808_168, 1_298_426_496),
    "s3": (10_170_600, 10_078_312, 1_895_790_592),
    "s4": (14_951_248, 14_838_352, 2_979_269_760),
}


@pytest.mark.parametrize("variant", RELEASED)
def test_the_released_networks_counts(variant):
    cost = model_cost(ModelSpec.preset(variant))
    assert (cost.train.params, cost.deployed.params, cost.deployed.macs) == RELEASED[variant]
    assert model_cost(variant) == cost


def test_se_share_of_s4():
    with_se, without = model_cost("s4"), model_cost(ModelSpec.preset("s4", se="none"))
    assert with_se.deployed.macs - without.deployed.macs == 1_628_160


def count_by_hooks(model, images):
    """Parameters, and multiply-adds as they happen: outputs x weights per output of every conv and linear."""
    macs = 0

    def add(module, _, output):
        nonlocal macs
        macs += output.numel() * module.weight[0].numel()

    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(add)
    model.eval()(images)
    return sum(p.numel() for p in model.parameters()), macs


@given(data=st.data(), image_size=st.integers(5, 40), classes=st.integers(1, 20))
@settings(max_examples=40, deadline=None)
def test_counts_equal_the_built_network(model_specs, data, image_size, classes):
    spec = data.draw(model_specs)
    images = torch.zeros(1, spec.in_channels, image_size, image_size)
    model = build_model(spec, classes)
    cost = model_cost(spec, image_size, classes)
    assert (cost.train.params, cost.train.macs) == count_by_hooks(model, images)
    assert (cost.deployed.params, cost.deployed.macs) == count_by_hooks(MobileOne(spec, classes, deployed=True), images)
    assert cost.deployed.params == sum(p.numel() for p in reparameterize(model.eval()).parameters())


@pytest.mark.parametrize(("field", "least"), [("image_size", 1), ("num_classes", 0)])
def test_bad_sizes_are_refused(field, least):
    with pytest.raises(InputError, match=f"{field}: {least - 1} is not allowed; an integer of {least} or more"):
        model_cost("s0", **{field: least - 1})


def test_counting_needs_no_torch():
    code = "import mobileone_core.model.cost as c, sys; c.model_cost('s0'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
