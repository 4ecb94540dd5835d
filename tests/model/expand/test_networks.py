"""Forty networks of torchvision and timm: what is taken, and that expanding and folding changes nothing.

`pytest -s` prints the share of convolutions that the plan takes.
"""

import copy

import pytest
import torch
from expanded_networks import difference, randomize
from torch.nn.modules.batchnorm import _NormBase

from mobileone_core import expand, expansion_plan, fold
from mobileone_core.model.expand.block import ExpandedConv2d
from mobileone_core.model.expand.plan import Reason

timm = pytest.importorskip("timm")
torchvision = pytest.importorskip("torchvision")

FAST = ["timm:lcnet_035", "torchvision:shufflenet_v2_x0_5", "timm:test_byobnet"]
NETWORKS = [
    "torchvision:mobilenet_v2", "torchvision:mobilenet_v3_small", "torchvision:mnasnet0_5", "torchvision:resnet18",
    "torchvision:regnet_x_400mf", "torchvision:regnet_y_400mf", "torchvision:efficientnet_b0", "torchvision:googlenet",
    "torchvision:densenet121", "torchvision:squeezenet1_1", "torchvision:ssdlite320_mobilenet_v3_large",
    "torchvision:lraspp_mobilenet_v3_large", "timm:mobileone_s0", "timm:mobilenetv3_small_050", "timm:test_resnet",
    "timm:tf_mobilenetv3_small_minimal_100", "timm:tf_efficientnet_lite0", "timm:ghostnet_050", "timm:mnasnet_small",
    "timm:fbnetc_100", "timm:hardcorenas_a", "timm:tinynet_e", "timm:mixnet_s", "timm:repvgg_a0", "timm:resnet10t",
    "timm:regnetx_002", "timm:regnety_002", "timm:dla46x_c", "timm:ese_vovnet19b_slim_dw", "timm:rexnet_100",
    "timm:mobilevit_xxs", "timm:convnext_atto", "timm:efficientvit_b0", "timm:repghostnet_050",
    "timm:mobilenetv4_conv_small_035", "timm:test_efficientnet", "timm:test_nfnet",
]  # fmt: skip
MOST_TAPS = 200  # of blocks that are folded here: a covariance of more takes seconds


def build(name):
    library, _, model = name.partition(":")
    if library == "timm":
        return timm.create_model(model, num_classes=10)
    options = {"weights": None, "weights_backbone": None} if "ssd" in name or "lraspp" in name else {}
    options |= {"init_weights": False} if "googlenet" in name else {}
    return torchvision.models.get_model(model, num_classes=10, **options)


def outputs(network, x):
    """All outputs of a network, for images or for a list of them, as one vector."""
    is_detector = type(network).__name__ == "SSD"
    if is_detector:  # what is detected jumps: the heads' outputs do not
        features = list(network.backbone(x).values())
        found = list(network.head(features).values())
    else:
        found = network(x)
    if isinstance(found, dict):
        found = list(found.values())
    found = [found] if isinstance(found, torch.Tensor) else found
    return torch.cat([value.flatten() for value in found if isinstance(value, torch.Tensor)])


def followed_by_norms(network, x):
    """Names of the convolutions whose output object is what a batch norm is called with."""
    written, pairs = {}, set()
    names = {module: name for name, module in network.named_modules()}

    def wrote(module, inputs, output):
        written[id(output)] = (names[module], output)

    def reads(module, inputs):
        if id(inputs[0]) in written:
            pairs.add(written[id(inputs[0])][0])

    convs = [module for module in names if type(module).__name__ in {"Conv2d", "Conv2dSame"}]
    hooks = [module.register_forward_hook(wrote) for module in convs]
    hooks += [module.register_forward_pre_hook(reads) for module in names if isinstance(module, _NormBase)]
    with torch.no_grad():
        outputs(network, x)
    for hook in hooks:
        hook.remove()
    return pairs


def train_step(network, x):
    torch.manual_seed(0)  # of dropout
    network.zero_grad()
    outputs(network, x).square().mean().backward()
    return torch.cat([value.grad.flatten() for value in network.parameters() if value.grad is not None])


@pytest.mark.parametrize("name", [*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in NETWORKS)])
def test_a_network_expands_trains_and_folds(name):
    torch.manual_seed(0)
    size = 96 if "ssd" in name else 64
    network = randomize(build(name).double()).eval()
    x = torch.randn(4, 3, size, size, dtype=torch.float64)
    with torch.no_grad():
        old, keys, kind = outputs(network, x), list(network.state_dict()), type(network)
    followed = followed_by_norms(network, x)
    plan = expansion_plan(network, k=2)
    print(f"\n{name}: {len(plan.taken)} of {len(plan.convs)} taken", *{item.reason for item in plan.left})

    assert followed <= {item.name for item in plan.convs}
    reasons = {item.name: item.reason for item in plan.left}
    assert all(isinstance(reason, Reason) for reason in reasons.values())
    assert {item.name for item in plan.taken} | {name for name in followed if name in reasons} >= followed
    assert not [name for name in followed if reasons.get(name) is Reason.NO_NORM]

    expand(network, k=2, execution="branches")
    expanded = {name for name, module in network.named_modules() if isinstance(module, ExpandedConv2d)}
    assert expanded == {item.name for item in plan.taken}
    assert type(network) is kind
    assert difference(outputs(network, x), old) < 1e-9
    if plan.taken:
        check_training(network, x)
    with torch.no_grad():
        moved = outputs(network.eval(), x)
        folded = fold(network)
        assert difference(outputs(folded, x), moved) < 1e-9
    assert list(folded.state_dict()) == keys
    assert len(old) == 0 or not plan.taken or difference(moved, old) > 1e-6


def check_training(network, x):
    """Random statistics, real steps, and the same gradients by branches and folded."""
    optimizer = torch.optim.SGD(network.parameters(), 1e-3)
    folded = copy.deepcopy(network).train()
    blocks = [module for module in folded.modules() if isinstance(module, ExpandedConv2d)]
    for block in blocks:
        block.execution = "folded" if block.geometry.taps <= MOST_TAPS else "branches"
    randomize(network, 1)
    randomize(folded, 1)
    network.train()
    ours, theirs = train_step(folded, x), train_step(network, x)
    assert difference(ours, theirs) < 1e-6
    optimizer.step()
