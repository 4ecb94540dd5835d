"""Variances of kernels and their gradients against autograd in float64, by the compiled operators and without them."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mobileone_core.model.folded import algebra
from mobileone_core.model.folded.algebra import Stacked
from mobileone_core.model.folded.native.library import available
from mobileone_core.model.folded.operators import OPERATORS

CLOSE = 3e-7  # in float32, of what the sums would be were no term negative
compiler = pytest.mark.skipif(not available(), reason="no C compiler")
WAYS = [pytest.param(True, id="compiled", marks=compiler), pytest.param(False, id="plain")]
INPUTS = ("mean", "covariance", "grad_weight", "factors", "slopes")


def draw(groups, branches, outputs, taps, seed):
    """Rows, mean, covariance, grad_weight, factors and slopes in float32."""
    generator = torch.Generator().manual_seed(seed)

    def random(*size):
        return torch.randn(groups, *size, generator=generator)

    half = random(taps, taps)
    scalars = (random(branches, outputs), random(branches, outputs))
    given = (random(taps), half @ half.mT, random(outputs, taps), *scalars)
    return [random(outputs, taps) for _ in range(branches)], dict(zip(INPUTS, given, strict=True))


def computed(rows, *, mean, covariance, grad_weight, factors, slopes):
    """All results of the functions under test."""
    stacked = Stacked(tuple(rows), factors)
    forms = algebra.quadratic_forms(stacked, mean, covariance)
    grad_factors, grad_rows, grad_covariance = algebra.quadratic_gradients(
        stacked, grad_weight, covariance, factors, slopes
    )
    return [*forms, algebra.weighted_sum(stacked, factors), grad_factors, grad_covariance, *grad_rows]


def expected(rows, *, mean, covariance, grad_weight, factors, slopes):
    """The same by autograd, of kernel = sum factor w and of variances, with slopes as they are defined."""
    weights = torch.stack(rows, 1).requires_grad_()  # (G, B, O, T)
    covariance = covariance.clone().requires_grad_()
    variances = torch.einsum("gbot,gts,gbos->gbo", weights, covariance, weights)
    grad_factors = torch.einsum("gbot,got->gbo", weights.detach(), grad_weight)
    kernel = torch.einsum("gbo,gbot->got", factors, weights)
    torch.autograd.backward((variances, kernel), (grad_factors * slopes, grad_weight))
    means = torch.einsum("gbot,gt->gbo", weights.detach(), mean)
    grad_rows = weights.grad.unbind(1)
    return [means, variances.detach(), kernel.detach(), grad_factors, covariance.grad, *grad_rows]


def compare(rows, values):
    """Terms may cancel: a rounding is one of the terms, not of what they leave."""
    rows64, values64 = [row.double() for row in rows], {name: value.double() for name, value in values.items()}
    truth = expected(rows64, **values64)
    sizes = expected([row.abs() for row in rows64], **{name: value.abs() for name, value in values64.items()})
    for actual, true, size in zip(computed(rows, **values), truth, sizes, strict=True):
        assert actual.dtype == torch.float32
        assert (actual - true).norm() <= CLOSE * size.norm()


@pytest.mark.parametrize("compiled", WAYS)
@settings(max_examples=40)
@given(
    size=st.tuples(
        st.sampled_from([1, 1, 2, 30]), st.integers(1, 5), st.sampled_from([1, 2, 7, 90, 300]), st.integers(1, 140)
    ),
    seed=st.integers(0, 2**32 - 1),
)
@example(size=(1, 2, 541, 129), seed=0)
@example(size=(1, 3, 480, 32), seed=0)
@example(size=(48, 4, 1, 9), seed=0)
def test_against_autograd_in_float64(compiled, size, seed):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mobileone_core.model.folded.algebra.available", lambda: compiled)
        compare(*draw(*size, seed))


@compiler
@pytest.mark.parametrize("size", [(1, 3, 300, 70), (40, 3, 2, 9)])
def test_threads_change_nothing_and_the_covariance_gets_a_symmetric_gradient(size):
    rows, values = draw(*size, 1)
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            results.append(computed(rows, **values))
    finally:
        torch.set_num_threads(threads)
    for others in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], others, strict=True))
    grad_covariance = results[0][4]
    assert torch.equal(grad_covariance, grad_covariance.mT)


@compiler
def test_nothing_depends_on_how_inputs_lie():
    rows, values = draw(1, 2, 40, 33, 2)
    plain = computed(rows, **values)
    strided = {name: torch.stack([value, value], -1)[..., 0] for name, value in values.items()}
    turned = computed([row.mT.contiguous().mT for row in rows], **strided)
    assert all(torch.equal(a, b) for a, b in zip(plain, turned, strict=True))


@compiler
def test_operators_match_their_schemas_and_fakes():
    rows, values = draw(1, 2, 13, 7, 3)
    given = {
        "forms": (rows, values["mean"], values["covariance"]),
        "kernel": (rows, values["factors"]),
        "gradients": (rows, *(values[name] for name in INPUTS[2:3] + INPUTS[1:2] + INPUTS[3:])),
    }
    checks = ("test_schema", "test_faketensor")
    for name, arguments in given.items():
        torch.library.opcheck(OPERATORS[f"quadratic_{name}"], arguments, test_utils=checks)


@compiler
def test_what_is_not_finite_stays_where_it_is():
    rows, values = draw(1, 2, 30, 20, 4)
    rows[1][0, 7, 3] = float("nan")
    means, variances, _, grad_factors, _, first, second = computed(rows, **values)
    for value in (means, variances, grad_factors):
        assert value.isnan().nonzero().tolist() == [[0, 1, 7]]
    assert first.isfinite().all()
    assert second.isnan().any(2).nonzero().tolist() == [[0, 7]]
