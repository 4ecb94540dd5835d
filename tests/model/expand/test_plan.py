"""The plan takes what batch norms follow in the data flow, and gives a reason for everything that it leaves."""

import pytest
import torch
from expanded_networks import Residual, conv_norm
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

from mobileone_core import expand, expansion_plan
from mobileone_core.errors import InputError
from mobileone_core.model.expand.block import ExpandedConv2d
from mobileone_core.model.expand.plan import Reason


class Flow(nn.Module):
    """Layers by name, and a function that calls them."""

    def __init__(self, call, **layers):
        super().__init__()
        self.call = call
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x):
        return self.call(self, x)


class Doubling(nn.Conv2d):
    def forward(self, x):
        return 2 * super().forward(x)


class Shifted(nn.BatchNorm2d):
    def forward(self, x):
        return super().forward(x) + 1


class Centred(nn.Conv2d):
    def _conv_forward(self, x, weight, bias):
        return super()._conv_forward(x, weight - weight.mean(), bias)


class Conv2dSame(nn.Conv2d):
    """Another than timm's."""

    def forward(self, x):
        return super().forward(x.flip(2))


class BatchNormAct2d(nn.BatchNorm2d):
    """Another than timm's."""

    def forward(self, x):
        return super().forward(x).sigmoid()


class Still(nn.BatchNorm2d):
    def train(self, mode=True):  # noqa: ARG002
        return super().train(False)


def with_weight(layer, weight):
    layer.weight = nn.Parameter(weight)
    return layer


def shared_statistics():
    network = nn.Sequential(conv_norm(3, 3, 3), conv_norm(3, 3, 3))
    network[1][1].running_mean = network[0][1].running_mean
    return network


class InList(nn.Module):
    """Calls its layers by a list of Python's."""

    def __init__(self):
        super().__init__()
        self.layers = [conv(), nn.BatchNorm2d(3)]
        for index, layer in enumerate(self.layers):
            self.add_module(f"layer{index}", layer)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


class ByClass(InList):
    """Does something else after layers of a class."""

    def forward(self, x):
        for layer in self.children():
            x = layer(x).relu() if isinstance(layer, nn.BatchNorm2d) else layer(x)
        return x


class Negative(nn.Module):
    def forward(self, x):
        return -x


def doubled(layer):
    """The layer with a forward of its own."""
    layer.forward = lambda x: 2 * type(layer).forward(layer, x)
    return layer


def conv(*, kind=nn.Conv2d, **options):
    return kind(3, 3, 3, padding=1, **options)


def with_hook(layer):
    layer.register_forward_hook(lambda *_: None)
    return layer


def without(name, layer):
    layer.register_parameter(name, None)
    return layer


def with_computed_bias():
    layer = conv()
    parametrize.register_parametrization(layer, "bias", Negative())
    return layer


def frozen(*layers):
    return [layer.requires_grad_(False) for layer in layers]


def with_eval_norm():
    layers = conv_norm(3, 3, 3, padding=1)
    layers[1].eval()
    return layers


def in_order(self, x):
    for layer in self.children():
        x = layer(x)
    return x


def shared_parameters():
    first, second = conv_norm(3, 3, 3, padding=1), conv_norm(3, 3, 3, padding=1)
    second[0].weight = first[0].weight
    return nn.Sequential(first, second)


NORM = nn.BatchNorm2d
CASES = {
    Reason.DIMENSIONS: lambda: Flow(in_order, a=nn.ConvTranspose2d(3, 3, 3, padding=1), bn=NORM(3)),
    Reason.FORWARD: lambda: Flow(in_order, a=conv(kind=Doubling), bn=NORM(3)),
    Reason.PARAMETRIZED: lambda: Flow(in_order, a=parametrizations.weight_norm(conv()), bn=NORM(3)),
    Reason.UNUSED: lambda: Flow(lambda self, x: self.bn(x), a=conv(), bn=NORM(3)),
    Reason.BYPASSED: lambda: Flow(lambda self, x: self.bn(self.a(x)) * self.a.weight.sum(), a=conv(), bn=NORM(3)),
    Reason.NO_NORM: lambda: Flow(lambda self, x: self.bn(self.a(x).relu()), a=conv(), bn=NORM(3)),
    Reason.OUTPUT_SHARED: lambda: Flow(lambda self, x: (y := self.a(x)) + self.bn(y), a=conv(), bn=NORM(3)),
    Reason.NORM_SHARED: lambda: Flow(lambda self, x: self.bn(self.a(self.bn(x))), a=conv(), bn=NORM(3)),
    Reason.NORMS: lambda: Flow(lambda self, x: self.b(self.a(self.bn(self.a(x)))), a=conv(), bn=NORM(3), b=NORM(3)),
    Reason.NORM_KIND: lambda: Flow(in_order, a=conv(), bn=Shifted(3)),
    Reason.HOOKS: lambda: Flow(in_order, a=with_hook(conv()), bn=NORM(3)),
    Reason.FROZEN: lambda: nn.Sequential(*frozen(conv(), NORM(3))),
    Reason.WEIGHTS_SHARED: shared_parameters,
    Reason.EXCLUDED: lambda: nn.Sequential(conv_norm(3, 3, 3), conv_norm(3, 3, 3)),
    Reason.NOTHING_TO_ADD: lambda: conv_norm(3, 3, 1),
}
OTHERS = [
    (Reason.DIMENSIONS, lambda: Flow(in_order, a=with_weight(conv(), torch.ones(3, 3, 1, 1)), bn=NORM(3))),
    (Reason.WEIGHTS_SHARED, shared_statistics),
    (Reason.PARAMETRIZED, lambda: Flow(in_order, a=prune.l1_unstructured(conv(), "weight", 0.5), bn=NORM(3))),
    (Reason.NORM_KIND, lambda: Flow(in_order, a=conv(), bn=NORM(3, track_running_stats=False))),
    (Reason.HOOKS, lambda: Flow(in_order, a=conv(), bn=with_hook(NORM(3)))),
    (Reason.FROZEN, with_eval_norm),
    (Reason.NO_NORM, lambda: Flow(in_order, a=conv(), gn=nn.GroupNorm(1, 3))),
    (Reason.DIMENSIONS, lambda: Flow(in_order, f=nn.Flatten(2), a=nn.Conv1d(3, 3, 1), bn=nn.BatchNorm1d(3))),
    (Reason.OUTPUT_SHARED, lambda: Flow(lambda self, x: (self.bn(y := self.a(x)), y)[::1], a=conv(), bn=NORM(3))),
    (Reason.OUTPUT_SHARED, lambda: Flow(lambda self, x: self.bn(y := self.a(x)) + y.data, a=conv(), bn=NORM(3))),
    (Reason.FORWARD, lambda: Flow(in_order, a=conv(kind=Centred), bn=NORM(3))),
    (Reason.FORWARD, lambda: Flow(in_order, a=conv(kind=Conv2dSame), bn=NORM(3))),
    (Reason.FORWARD, lambda: Flow(in_order, a=doubled(conv()), bn=NORM(3))),
    (Reason.NORM_KIND, lambda: Flow(in_order, a=conv(), bn=doubled(NORM(3)))),
    (Reason.NORM_KIND, lambda: Flow(in_order, a=conv(), bn=BatchNormAct2d(3))),
    (Reason.NORM_KIND, lambda: Flow(in_order, a=conv(), bn=without("bias", NORM(3)))),
    (Reason.PARAMETRIZED, lambda: Flow(in_order, a=with_computed_bias(), bn=NORM(3))),
    (Reason.FROZEN, lambda: Flow(in_order, a=conv().requires_grad_(False), bn=NORM(3))),
    (Reason.FROZEN, lambda: Flow(in_order, a=conv(), bn=Still(3))),
    (Reason.BYPASSED, InList),
    (Reason.BYPASSED, lambda: Flow(lambda self, x: self.bn(self.a(x.to(self.a.weight.dtype))), a=conv(), bn=NORM(3))),
    (Reason.BYPASSED, lambda: Flow(lambda self, x: self.bn(self.a(x)) + self.bn.running_var[0], a=conv(), bn=NORM(3))),
]  # fmt: skip


def options_for(reason):
    return {Reason.EXCLUDED: {"where": ["0.*"]}, Reason.NOTHING_TO_ADD: {"k": 1, "skip": False}}.get(reason, {})


def untraceable(network):
    """The same network, as one that torch.fx cannot trace."""
    return Flow(lambda self, x: self.inner(x) if x.sum() < 1e9 else x, inner=network)


@pytest.mark.parametrize("traced", [True, False])
@pytest.mark.parametrize(("reason", "build"), [*CASES.items(), *OTHERS])
def test_every_reason(reason, build, traced):
    network = build() if traced else untraceable(build())
    options = options_for(reason)
    if reason is Reason.EXCLUDED and not traced:
        options = {"where": ["inner.0.*"]}
    plan = expansion_plan(network, inputs=(torch.zeros(2, 3, 16, 16),), **options)
    assert plan.left[-1].reason is reason
    assert reason.value in str(plan)
    before = [type(module) for module in network.modules()]
    modes = [module.training for module in network.modules()]
    expand(network, inputs=(torch.zeros(2, 3, 16, 16),), **options)
    assert sum(isinstance(module, ExpandedConv2d) for module in network.modules()) == len(plan.taken)
    if not plan.taken:
        assert [type(module) for module in network.modules()] == before
        assert [module.training for module in network.modules()] == modes


def test_arguments_that_are_not_given_have_their_defaults():
    class Optional(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.bn = conv(), nn.BatchNorm2d(3)

        def forward(self, x, mask=None):
            y = self.conv(x)
            return self.bn(y) + y if mask is None else self.bn(y) * mask

    assert expansion_plan(Optional()).left[0].reason is Reason.OUTPUT_SHARED
    images = torch.zeros(2, 3, 8, 8)
    assert len(expansion_plan(Optional(), inputs=(images, images)).taken) == 1


def test_a_forward_of_the_network_alone_is_the_one_that_is_planned():
    network = Flow(in_order, a=conv(), bn=NORM(3))
    network.forward = lambda x: network.bn(network.a(x).relu())
    assert expansion_plan(network).left[0].reason is Reason.NO_NORM


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
@pytest.mark.parametrize("traced", [True, False])
def test_what_torchscript_reads_is_shared(traced):
    def gate(x: torch.Tensor) -> torch.Tensor:
        return x.sigmoid() * 2

    scripted = torch.jit.script(gate)
    network = Flow(lambda self, x: self.bn(y := self.a(x)) + scripted(y), a=conv(), bn=NORM(3))
    network = (network if traced else untraceable(network)).eval()
    images = torch.randn(2, 3, 16, 16)
    expected = network(images)
    assert [item.reason for item in expansion_plan(network).left] == [Reason.OUTPUT_SHARED]
    assert torch.equal(expand(network)(images), expected)


def test_every_reason_has_a_case():
    assert set(CASES) == set(Reason)


@pytest.mark.parametrize("control_flow", [False, True])
def test_the_data_flow_decides_not_the_order_of_modules(control_flow):
    plan = expansion_plan(Residual(control_flow))
    assert {(item.name, item.norm) for item in plan.taken} == {("conv1", "bn1"), ("conv2", "bn2")}
    assert [(item.name, item.reason) for item in plan.left] == [("alone", Reason.NO_NORM)]
    branches = {item.name: item.branches for item in plan.taken}
    assert branches["conv2"] == ("kxk_0", "kxk_1", "kxk_2", "kxk_3", "scale", "skip")
    assert branches["conv1"] == ("kxk_0", "kxk_1", "kxk_2", "kxk_3", "scale")


def test_planning_changes_nothing_and_draws_nothing():
    network = Residual(control_flow=True).train()
    network.bn1.eval()
    state = {name: value.clone() for name, value in network.state_dict().items()}
    drawn = torch.get_rng_state()
    expansion_plan(network)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert [network.training, network.bn1.training] == [True, False]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


@pytest.mark.parametrize("control_flow", [False, True])
@pytest.mark.parametrize("in_place", [False, True])
def test_planning_leaves_what_forward_writes(control_flow, in_place):
    class Counting(Residual):
        def __init__(self):
            super().__init__(control_flow)
            self.register_buffer("count", torch.zeros(()))
            self.last = None

        def forward(self, x):
            self.count = self.count.add_(1) if in_place else self.count + 1
            self.last = super().forward(x)
            return self.last

    network = Counting()
    count = network.count
    assert len(expansion_plan(network).taken) == 2
    assert network.count is count
    assert count == 0
    assert network.last is None


def test_planning_takes_no_step_of_a_spectral_norm():
    network = nn.Sequential(parametrizations.spectral_norm(conv()), nn.BatchNorm2d(3)).train()
    state = {name: value.clone() for name, value in network.state_dict().items()}
    assert expansion_plan(network).left[0].reason is Reason.PARAMETRIZED
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


def test_a_forward_that_asks_for_classes_of_layers_is_refused_and_left():
    network = ByClass()
    del network.layers
    images = torch.randn(2, 3, 8, 8)
    expected = network.eval()(images)
    assert expansion_plan(network).taken
    with pytest.raises(InputError, match=r"without isinstance"):
        expand(network)
    assert [type(layer) for layer in network.children()] == [nn.Conv2d, nn.BatchNorm2d]
    assert torch.allclose(network(images), expected, atol=1e-6)


def test_where_takes_patterns_and_functions():
    for where in (["conv1"], ["*1"], lambda _, conv: conv.kernel_size == (5, 3)):
        assert [item.name for item in expansion_plan(Residual(), where=where).taken] == ["conv1"]


@pytest.mark.parametrize(
    "options",
    [{"k": 0}, {"k": 99}, {"method": "orepa"}, {"scale": 1}, {"skip": "always"}, {"where": "layer1"}, {"where": []},
     {"execution": "fast"}],
)  # fmt: skip
def test_bad_options_are_refused_in_one_line(options):
    with pytest.raises(InputError, match=next(iter(options))) as error:
        expand(Residual(), **options)
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match=next(iter(options))):
        expansion_plan(Residual(), **options)


def test_what_cannot_be_planned_is_refused():
    with pytest.raises(InputError, match="expand it once"):
        expand(expand(Residual()))
    with pytest.raises(InputError, match="Module"):
        expansion_plan("resnet18")
    with pytest.raises(InputError, match=r"where: 'layer9\.\*'"):
        expand(Residual(), where=["conv1", "layer9.*"])
    with pytest.raises(InputError, match="expand, then wrap"):
        expand(type("DistributedDataParallel", (nn.Sequential,), {})(*conv_norm(3, 3, 3)))
    lazy = Flow(in_order, inner=Residual(control_flow=True), flat=nn.Flatten(), linear=nn.LazyLinear(2))
    with pytest.raises(InputError, match="run it once"):
        expand(lazy)
    with pytest.raises(InputError, match="a tuple"):
        expansion_plan(Residual(control_flow=True), inputs=torch.zeros(1, 3, 8, 8))
    with pytest.raises(TypeError, match="branches"):
        expansion_plan(Residual(), branches=3)

    class Two(Residual):
        def forward(self, x, y):
            return super().forward(x) + y if y.sum() > 0 else x

    with pytest.raises(InputError, match="give inputs"):
        expand(Two())
    assert len(expansion_plan(Two(), inputs=(torch.zeros(1, 3, 8, 8), torch.ones(1))).taken) == 2
