"""Rounding of the folded path in float32 and bfloat16, against the branches in float64 as truth."""

import pytest
import torch
from folded_blocks import draw_block, trace
from recorded import HALF_UNIT, QUANTITIES, errors_by_path, record_training, train

from mobileone_core.data.spec import DataSpec
from mobileone_core.model.folded import algebra
from mobileone_core.model.folded import block as folded_block
from mobileone_core.model.spec import BlockSpec

KINDS = {
    "stem": BlockSpec(3, 8, 3, 2, 1, 3, True, False),
    "depthwise": BlockSpec(8, 8, 3, 1, 8, 3, True, False),
    "strided": BlockSpec(8, 8, 3, 2, 8, 3, True, False),
    "pointwise": BlockSpec(8, 8, 1, 1, 1, 3, True, False),
}
CASES = [
    *("offset 1e4", "offset 1e6", "offset 1e8", "times 1e15", "times 1e-15", "times 1e-30"),
    *("constant", "nearly constant", "one dead channel"),
]


@pytest.fixture(scope="module")
def recordings():
    """Every block of the embedded default from the start to the end of six epochs, and of S0 in its first steps."""
    tiny = record_training(changes={"recipe.epochs": 6}, steps=(0, 35, 107))
    s0 = record_training("s0", DataSpec(image_size=64), {"recipe.batch_size": 16, "recipe.epochs": 1}, steps=(12,))
    return [*tiny, *s0]


@pytest.mark.slow
@pytest.mark.parametrize("compiled", [True, False])
def test_float32_errors_are_at_most_three_times_the_branches(recordings, compiled, monkeypatch):
    """Every block, every quantity, in norms."""
    if not compiled:
        for module in (folded_block, algebra):
            monkeypatch.setattr(module, "available", lambda: False)
    elif not folded_block.available():
        pytest.skip("no C compiler")
    beyond = []
    for recorded in recordings:
        results = errors_by_path(recorded)
        beyond += [
            (recorded.name, recorded.step, name, error, results["branches"][name])
            for name, error in results["folded"].items()
            if error > 3 * max(results["branches"][name], HALF_UNIT)
        ]
    assert not beyond


@pytest.mark.slow
def test_under_autocast_it_is_no_worse_than_the_branches_on_recorded_activations(recordings):
    """In the median over blocks, and in none by more than a tenth: the luck of rounding of a few hundred values."""
    pairs = [errors_by_path(recorded, autocast=True) for recorded in recordings]
    for name in QUANTITIES:
        ratios = sorted(results["folded"][name] / results["branches"][name] for results in pairs)
        assert ratios[len(ratios) // 2] < 1, name
        assert ratios[-1] < 1.1, name


def adversarial(case, shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    if case == "constant":
        return torch.full(shape, 1.7)
    if case == "nearly constant":
        return 1 + 1e-7 * x
    if case == "one dead channel":
        return torch.cat((torch.zeros_like(x[:, :1]), x[:, 1:]), 1)
    kind, number = case.split()
    return x + float(number) if kind == "offset" else x * float(number)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", CASES)
def test_adversarial_inputs_give_finite_outputs_gradients_and_statistics(kind, case):
    """In float32. From 1e17 on the squares of a sum overflow, as they do in the branches' running variance."""
    spec = KINDS[kind]
    block = draw_block(spec, dtype=torch.float32)
    results = trace(block, [adversarial(case, (4, spec.in_channels, 12, 12))], "folded")
    values = (results.output, results.input_gradient, *results.gradients.values(), *results.buffers.values())
    assert all(value.isfinite().all() for value in values)


def test_a_constant_channel_beside_a_skip_branch_costs_no_digits():
    """Its variance is 0, so the skip's factor is 1 / sqrt(eps), and everything that it multiplies cancels."""
    block = draw_block(KINDS["pointwise"], dtype=torch.float32)
    block.identity.weight.data.fill_(1.0)
    block.identity.eps = 1e-5
    x = torch.randn(4, 8, 12, 12, generator=torch.Generator().manual_seed(1))
    x[:, 0] = 7.3
    truth = trace(block.double(), [x.double()], "branches").output
    block.float()
    outputs = [trace(block, [x], path).output.double() for path in ("folded", "branches")]
    errors = [float((output - truth).norm() / truth.norm()) for output in outputs]
    assert errors[0] <= 3 * max(errors[1], HALF_UNIT)


def gradient_errors(spec, x):
    """Relative errors of all parameters' gradients together, folded and by branches, against float64."""
    block = draw_block(spec, dtype=torch.float32)

    def gradients(path, dtype):
        results = trace(block.to(dtype), [x.to(dtype)], path).gradients
        return torch.cat([gradient.flatten().double() for gradient in results.values()])

    truth = gradients("branches", torch.float64)
    return [float((gradients(path, torch.float32) - truth).norm() / truth.norm()) for path in ("folded", "branches")]


@pytest.mark.parametrize("size", [2, 6])
def test_fewer_positions_than_channels_cost_no_digits_of_the_gradients(size):
    """One pixel far from the others: what it adds to a kernel's gradient, the variance's gradient takes away. On more
    positions it costs digits, as bench_conditioning.py draws.
    """
    x = torch.randn(1, 64, size, size, generator=torch.Generator().manual_seed(0)).relu()
    x[:, :, 0, 0] *= 1000
    folded, branches = gradient_errors(BlockSpec(64, 64, 1, 1, 1, 3, True, False), x)
    assert folded <= 3 * max(branches, HALF_UNIT)


@pytest.mark.parametrize("size", [12, 24])
def test_pixels_that_the_centre_does_not_see_cost_it_no_digits(size):
    """At stride 2: the scale branch sees every fourth pixel, and the others' spread is a thousand times theirs."""
    x = torch.randn(16, 8, size, size, generator=torch.Generator().manual_seed(0)).relu()
    x[:, :, ::2, ::2] /= 1000
    folded, branches = gradient_errors(KINDS["strided"], x)
    assert folded <= 3 * max(branches, HALF_UNIT)


@pytest.mark.slow
def test_an_epoch_of_training_has_the_same_losses_by_both_paths():
    """At a small learning rate: at the recipe's own, a rounding grows tenfold per step, on either path."""

    def ignore(*_):
        pass

    losses = [train(ignore, 18, changes={"recipe.lr": 0.001}, execution=path) for path in ("branches", "folded")]
    differences = [abs(one - other) / one for one, other in zip(*losses, strict=True)]
    assert max(differences) < 5e-4
    assert max(losses[0]) - min(losses[0]) > 5e-3 * losses[0][0]  # something was learned
