"""Operators against torch, each converted from a network that uses it; and what is not known is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from mobileone_core.coreml.convert import convert, save
from mobileone_core.coreml.evaluate import apply, evaluate
from mobileone_core.coreml.operators import Inputs
from mobileone_core.coreml.options import Options
from mobileone_core.coreml.program import read_program
from mobileone_core.errors import InputError


class Computes(nn.Module):
    """Functions as one network, which gives their values in a row: converting takes as long for one as for all."""

    def __init__(self, functions):
        super().__init__()
        self.functions = functions
        self.scale = nn.Parameter(torch.randn(4, 1, 1))

    def values(self, x):
        return [function(x * self.scale).flatten(1) for function in self.functions]

    def forward(self, x):
        return torch.cat(self.values(x), 1)


FUNCTIONS = {
    "pool": lambda x: F.max_pool2d(x, 3, 2, 1),
    "ceil pool": lambda x: F.max_pool2d(x, 2, 2, ceil_mode=True),
    "mean": lambda x: F.avg_pool2d(x, 3, 2, 1),
    "mean without pads": lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
    "pad": lambda x: F.pad(x, (1, 2, 0, 3), value=0.5),
    "reflect": lambda x: F.pad(x, (1, 2, 0, 3), mode="reflect"),
    "attention": lambda x: (x @ x.transpose(-1, -2)).softmax(-1) @ x,
    "layer norm": lambda x: F.layer_norm(x, (9,)),
    "slices": lambda x: torch.cat((x[:, ::2, 1:-2], x[:, 1::2, 3:]), 3),
    "shuffle": lambda x: x.reshape(1, 2, 2, 9, 9).transpose(1, 2).reshape(1, 4, 9, 9),
    "split": lambda x: torch.maximum(*x.split((2, 2), 1)) * x.chunk(4, 1)[3],
    "reductions": lambda x: x.amax(1, keepdim=True) + x.sum((2, 3), keepdim=True) - x.amin(3, keepdim=True),
    "functions": lambda x: x.exp().sqrt() + x.erf() * x.tanh() - F.softplus(x) / (x.square() + 1).rsqrt(),
    "clips": lambda x: F.relu6(x) + x.clamp(-0.5, 0.25) + F.hardsigmoid(x) + F.hardswish(x),
    "leaky": lambda x: F.leaky_relu(x, 0.2) + F.elu(x) + F.silu(x) + F.gelu(x),
    "resample": lambda x: F.interpolate(x, scale_factor=2, mode="nearest"),
    "gather": lambda x: x[:, [2, 0, 3]],
}


def run(network, x, tmp_path):
    """Program and torch, on one input."""
    save(convert(network.eval(), x.shape[1], Options(x.shape[2], "float32")), tmp_path / "a.mlpackage", {})
    with torch.inference_mode():
        expected = network(x)
    [found] = evaluate(read_program(tmp_path / "a.mlpackage"), {"images": x}).values()
    return found, expected


@pytest.fixture(scope="module")
def computed(tmp_path_factory):
    """The values of every function by its name: the program's and torch's."""
    torch.manual_seed(0)
    network, x = Computes(FUNCTIONS.values()), torch.randn(1, 4, 9, 9)
    found, expected = run(network, x, tmp_path_factory.mktemp("operators"))
    with torch.inference_mode():
        sizes = [value.shape[1] for value in network.values(x)]
    return dict(zip(FUNCTIONS, zip(found.split(sizes, 1), expected.split(sizes, 1), strict=True), strict=True))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_operators_are_torch_s(name, computed):
    torch.testing.assert_close(*computed[name], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    groups=st.integers(1, 3),
    widths=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    kernel=st.sampled_from([1, 2, 3, 5]),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
    pad=st.one_of(st.integers(0, 2), st.just("same")),
    bias=st.booleans(),
)
def test_convolutions_of_any_shape(groups, widths, kernel, stride, dilation, pad, bias, tmp_path):  # noqa: PLR0917
    pad = pad if stride == 1 or pad != "same" else 1
    conv = nn.Conv2d(groups * widths[0], groups * widths[1], kernel, stride, pad, dilation, groups, bias)
    found, expected = run(conv, torch.randn(1, groups * widths[0], 11, 11), tmp_path)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "given", "words"),
    [
        ("fly", {}, "operator fly is not supported"),
        ("relu", {"x": torch.ones(1), "slope": torch.ones(1)}, "operator relu: input slope is not supported"),
        ("gelu", {"x": torch.ones(1), "mode": "FAST"}, "operator gelu: mode = 'FAST' is not supported"),
        ("conv", {"x": torch.ones(1, 1, 2, 2)}, "operator conv: input weight is missing"),
        ("cast", {"x": torch.ones(1), "dtype": "int4"}, "dtype = 'int4'"),
        ("einsum", {"values": torch.ones(1)}, "operator einsum: input equation is missing"),
        (
            "classify",
            {"probabilities": torch.ones(1), "classes": "a"},
            "'a' is not supported; expected a list of strings",
        ),
    ],
)
def test_what_is_not_known_is_refused(kind, given, words):
    with pytest.raises(InputError, match=words):
        apply(Inputs(kind, given))


@pytest.mark.slow
def test_rounding_is_that_of_half_precision(deployed, tmp_path):
    network = deployed()
    save(convert(network, 3, Options(32)), tmp_path / "a.mlpackage", {})
    program = read_program(tmp_path / "a.mlpackage")
    first = replace(program, outputs=program.operations[0].results)
    x = torch.randn(1, 3, 32, 32).half().float()
    [exact], [rounded] = (evaluate(first, {"images": x}, rounds=rounds).values() for rounds in (False, True))
    np.testing.assert_array_equal(rounded.numpy(), exact.numpy().astype(np.float16).astype(np.float32))
    assert not torch.equal(exact, rounded)


@pytest.mark.slow
def test_inputs_are_those_of_the_program(deployed, tmp_path):
    save(convert(deployed(), 3, Options(32)), tmp_path / "a.mlpackage", {})
    with pytest.raises(InputError, match="the program takes images"):
        evaluate(read_program(tmp_path / "a.mlpackage"), {"x": torch.ones(1)})
