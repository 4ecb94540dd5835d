"""Schedules at their ends, against closed forms and PyTorch's own schedulers."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mobileone_core.training.optimizer import learning_rate, weight_decay
from mobileone_core.training.recipe import Recipe
from mobileone_core.training.recipe_presets import recipe_preset

fractions = st.floats(0, 1)


def test_learning_rate_at_its_ends():
    recipe = Recipe(epochs=20, lr=0.4, warmup_epochs=5)
    assert learning_rate(recipe, 0.0) == 0.0
    assert learning_rate(recipe, 0.125) == pytest.approx(0.2, rel=1e-12)
    assert learning_rate(recipe, 0.25) == 0.4
    assert learning_rate(recipe, 0.625) == pytest.approx(0.2, rel=1e-12)
    assert learning_rate(recipe, 1.0) == pytest.approx(0.0, abs=1e-17)


def test_without_warmup_the_first_step_has_the_full_rate():
    assert learning_rate(Recipe(lr=0.1), 0.0) == 0.1


def test_warmup_over_the_whole_run_never_divides_by_zero():
    recipe = Recipe(epochs=2, warmup_epochs=2, lr=0.1)
    assert [learning_rate(recipe, p) for p in (0.0, 0.5, 1.0)] == [0.0, 0.05, 0.1]


def test_weight_decay_at_its_ends():
    recipe = Recipe(weight_decay=1e-4, weight_decay_end=1e-5)
    assert weight_decay(recipe, 0.0) == 1e-4
    assert weight_decay(recipe, 0.5) == pytest.approx(5.5e-5, rel=1e-12)
    assert weight_decay(recipe, 1.0) == pytest.approx(1e-5, rel=1e-12)
    assert {weight_decay(replace(recipe, weight_decay_end=None), p) for p in (0.0, 0.3, 1.0)} == {1e-4}


@given(fractions, st.floats(0, 0.9), st.floats(1e-4, 10))
def test_learning_rate_closed_form(progress, warmup, lr):
    recipe = Recipe(epochs=10, warmup_epochs=10 * warmup, lr=lr)
    start = recipe.warmup_epochs / 10
    rest = (progress - start) / (1 - start)
    rising = start > 0 and progress <= start
    expected = lr * progress / start if rising else lr * math.cos(math.pi * rest / 2) ** 2
    assert learning_rate(recipe, progress) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@given(fractions, st.floats(0, 1), st.floats(0, 1))
def test_weight_decay_stays_between_its_ends(progress, start, end):
    value = weight_decay(Recipe(weight_decay=start, weight_decay_end=end), progress)
    assert min(start, end) - 1e-15 <= value <= max(start, end) + 1e-15


def test_learning_rate_equals_pytorchs_cosine():
    steps = 17
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    for step in range(steps):
        assert learning_rate(Recipe(lr=0.3), step / steps) == pytest.approx(scheduler.get_last_lr()[0], rel=1e-9)
        optimizer.step()
        scheduler.step()


@given(st.integers(0, 299), st.integers(0, 1920), st.integers(1800, 1921))
def test_corenets_rate_is_by_steps_in_warm_up_and_by_epochs_after(epoch, batch, steps):
    """Against the rule of CoreNet's scheduler: warm-up counts iterations, the cosine counts epochs from 0 to 300."""
    batch = min(batch, steps - 1)
    step = epoch * steps + batch
    progress = step / (300 * steps)
    rising = 0.05 + 0.35 * step / 7500
    falling = 2e-4 + (0.4 - 2e-4) * (1 + math.cos(math.pi * epoch / 300)) / 2
    expected = rising if step < 7500 else falling
    assert learning_rate(recipe_preset("corenet"), progress, step) == pytest.approx(expected, rel=1e-12)


def test_corenets_rate_at_its_ends():
    recipe = recipe_preset("corenet")
    assert learning_rate(recipe, 0.0, 0) == 0.05
    assert learning_rate(recipe, 4 / 300, 7500) < 0.4
    assert learning_rate(recipe, 1.0, 10**6) == pytest.approx(2e-4)
    assert {weight_decay(recipe, progress) for progress in (0.0, 0.5, 1.0)} == {4e-5}
