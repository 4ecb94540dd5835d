"""A last.ckpt that commit 22d9c40 wrote after 2 of 4 epochs is read and trained to the end.

fixtures/22d9c40 holds that checkpoint, and metrics and weights that the same commit reached without an interruption.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mobileone_core.training.module import CellModule

FIXTURE = Path(__file__).parent / "fixtures" / "22d9c40"
CHANGES = {"epochs": 4, "ema_decay": 0.9}
RTOL, ATOL = 1e-3, 1e-4  # another CPU rounds otherwise; a wrong resume is further off, as tested below


@pytest.fixture
def content():
    """The checkpoint's content."""
    return torch.load(FIXTURE / "last.ckpt", weights_only=True)


@pytest.fixture
def resume(train, tmp_path):
    """resume(observer, content) trains the checkpoint, or a changed content of it, to the end."""

    def run(observer=None, content=None):
        path = tmp_path / "resumed" / "last.ckpt"
        path.parent.mkdir()
        if content is None:
            shutil.copy(FIXTURE / "last.ckpt", path)
        else:
            torch.save(content, path)
        return train("resumed", observer, **CHANGES)

    return run


def distance(weights, others):
    """Largest difference between two states' tensors beyond rtol, in units of the tolerance."""
    return max(
        ((value.double() - others[name].double()).abs() / (ATOL + RTOL * others[name].double().abs())).max().item()
        for name, value in weights.items()
    )


def test_the_state_is_read_exactly(resume, memory, content, monkeypatch):
    states = []

    def on_train_start(module):
        optimizer = module.trainer.optimizers[0].state_dict()
        weights = {name: value.clone() for name, value in module.state_dict().items()}
        buffers = {index: state["momentum_buffer"].clone() for index, state in optimizer["state"].items()}
        states.append((module.current_epoch, module.trainer.global_step, weights, buffers, optimizer["param_groups"]))

    monkeypatch.setattr(CellModule, "on_train_start", on_train_start)
    observer = memory()
    resume(observer)
    [(epoch, step, weights, buffers, groups)] = states
    assert (epoch, step) == (content["epoch"] + 1, content["global_step"]) == (2, 8)
    assert [vars(record) for record in observer.resumed_with] == content["history"]
    assert [record.epoch for record in observer.records] == [3, 4]
    assert weights.keys() == content["state_dict"].keys()
    assert all(torch.equal(value, content["state_dict"][name]) for name, value in weights.items())
    [old] = content["optimizer_states"]
    assert groups == old["param_groups"]
    assert buffers.keys() == old["state"].keys()
    assert all(torch.equal(value, old["state"][index]["momentum_buffer"]) for index, value in buffers.items())


def test_it_ends_as_the_uninterrupted_cell_of_that_commit_and_of_this_one(resume, train):
    result, whole = resume(), train("whole", **CHANGES)
    weights = load_file(result.weights)
    for other in (load_file(FIXTURE / "weights.safetensors"), load_file(whole.weights)):
        assert weights.keys() == other.keys()
        assert distance(weights, other) < 1
    expected = json.loads((FIXTURE / "metrics.json").read_text())
    for metrics in (expected, whole.metrics):
        for name in ("train/loss", "val/loss", "test/loss", "val/top1", "test/top1", "test/images"):
            assert result.metrics[name] == pytest.approx(metrics[name], rel=1e-3), name
    assert result.metrics.keys() == expected.keys() | {"time/train_seconds", "train/steps", "test/majority"}


def without_momentum(content):
    for state in content["optimizer_states"][0]["state"].values():
        state["momentum_buffer"].zero_()


def without_average(content):
    state = content["state_dict"]
    for name in [name for name in state if name.startswith("network.")]:
        state[name.replace("network.", "averaged.module.", 1)].copy_(state[name])


def from_the_average(content):
    state = content["state_dict"]
    for name in [name for name in state if name.startswith("network.")]:
        state[name].copy_(state[name.replace("network.", "averaged.module.", 1)])


@pytest.mark.parametrize("damage", [without_momentum, without_average, from_the_average])
def test_a_wrong_resume_is_beyond_the_tolerance(resume, content, damage):
    damage(content)
    weights = load_file(resume(content=content).weights)
    found = distance(weights, load_file(FIXTURE / "weights.safetensors"))
    assert found > 10, found
