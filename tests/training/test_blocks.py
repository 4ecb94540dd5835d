"""A cell trains folded as it does branch by branch, and may change between its epochs."""

import contextlib
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from mobileone_core.errors import InputError
from mobileone_core.study.environment import environment_tags
from mobileone_core.training.execution import Execution
from mobileone_core.training.observer import TrainingStopped

EPOCHS = 3
FOLDED, BRANCHES = Execution("cpu", blocks="folded"), Execution("cpu", blocks="branches")


def assert_alike(one, other):
    """Weights and statistics but for float32's rounding, which training enlarges up to ten times a step."""
    mine, theirs = (
        torch.cat([value.flatten().double() for _, value in sorted(load_file(result.weights).items())])
        for result in (one, other)
    )
    assert (mine - theirs).norm() < 1e-2 * theirs.norm()
    assert abs(one.metrics["train/loss"] - other.metrics["train/loss"]) < 1e-3


def test_another_seed_is_not_alike(train, cell):
    with pytest.raises(AssertionError):
        assert_alike(train("one", spec=replace(cell, seed=1)), train("other", spec=replace(cell, seed=2)))


def test_a_cell_folded_is_the_cell_by_branches(train):
    assert_alike(train("folded", execution=FOLDED), train("branches", execution=BRANCHES))


@pytest.mark.slow
@pytest.mark.parametrize("order", [(BRANCHES, FOLDED), (FOLDED, BRANCHES)])
def test_a_checkpoint_of_one_path_goes_on_with_the_other(train, memory, order):
    first, second = order
    with contextlib.suppress(TrainingStopped):
        train("moved", memory(after_epoch=2), first, epochs=EPOCHS)
    observer = memory()
    moved = train("moved", observer, second, epochs=EPOCHS)
    assert observer.resumed_with
    assert_alike(moved, train("whole", execution=BRANCHES, epochs=EPOCHS))


def test_the_path_is_how_a_cell_runs_and_is_recorded():
    assert "folded blocks" in environment_tags(FOLDED)["execution"]
    assert environment_tags(BRANCHES)["execution"] == "branches blocks"
    assert environment_tags(Execution("cpu"))["execution"] == "auto blocks"
    with pytest.raises(InputError, match="blocks: 'fast' is not allowed"):
        Execution(blocks="fast")
