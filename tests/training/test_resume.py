"""The same cell gives the same numbers, whatever interrupted it."""

import contextlib
from functools import partial

import pytest
import torch
from safetensors.torch import load_file, save_file

from mobileone_core.errors import InputError
from mobileone_core.model.network import build_model
from mobileone_core.training.cell import teacher_model
from mobileone_core.training.observer import TrainingStopped
from mobileone_core.training.recipe import Phase, Teacher

EPOCHS = 3
TEACHER = Teacher("tiny")


def timeless(metrics):
    return {name: value for name, value in metrics.items() if not name.startswith("time/")}


def outcome(result, observer):
    """All that a cell tells, without times, as bytes and plain values."""
    history = [(record.epoch, record.step, timeless(record.metrics)) for record in observer.records]
    weights = {name: tensor.numpy().tobytes() for name, tensor in load_file(result.weights).items()}
    return timeless(result.metrics), weights, history


@pytest.fixture(scope="module")
def whole(train_at, memory, tmp_path_factory):
    """The outcome of the uninterrupted cell."""
    observer = memory()
    return outcome(train_at(tmp_path_factory.mktemp("whole"), observer, epochs=EPOCHS), observer)


def test_the_same_cell_gives_the_same_bits(train, memory, whole):
    observer = memory()
    assert outcome(train("again", observer, epochs=EPOCHS), observer) == whole


@pytest.mark.quick_cases("{'after_batch': 5}", "{'after_epoch': 2}")
@pytest.mark.parametrize(
    "stop",
    [
        {"after_batch": 1},
        {"after_batch": 4},
        {"after_batch": 5},
        {"after_batch": 7},
        {"after_batch": 9},
        {"after_batch": 12},
        {"after_epoch": 1},
        {"after_epoch": 2},
        {"after_epoch": 3},
    ],
    ids=str,
)
def test_an_interrupted_cell_ends_as_an_uninterrupted_one(train, memory, whole, stop):
    first = memory(**stop)
    with pytest.raises(TrainingStopped):
        train(observer=first, epochs=EPOCHS)
    done = [r for r in first.records if r.epoch != stop.get("after_epoch")]  # what that epoch's stop left unwritten
    second = memory()
    result = train(observer=second, epochs=EPOCHS)
    assert second.resumed_with == (done or None)
    second.records = done + second.records
    assert outcome(result, second) == whole


def test_interrupted_in_every_epoch(train, memory, whole):
    records = []
    for _ in range(EPOCHS):
        observer = memory(after_batch=5)  # 4 steps an epoch: one epoch further each time
        with contextlib.suppress(TrainingStopped):
            result = train(observer=observer, epochs=EPOCHS)
        records += observer.records
    observer.records = records
    assert outcome(result, observer) == whole


def test_a_cell_killed_before_its_test_only_tests(train, memory, whole):
    first = memory()
    result = train(observer=first, epochs=EPOCHS)
    result.weights.unlink()
    second = memory()
    again = train(observer=second, epochs=EPOCHS)
    assert (second.batches, second.records, second.resumed_with) == (0, [], first.records)
    assert again.metrics == result.metrics
    assert outcome(again, first) == whole


def test_resuming_adds_up_the_time_of_all_attempts(train, memory):
    with pytest.raises(TrainingStopped):
        train(observer=memory(after_batch=5))
    observer = memory()
    result = train(observer=observer)
    seconds = [r.metrics["time/epoch_seconds"] for r in [*observer.resumed_with, *observer.records]]
    assert len(seconds) == 2
    assert result.metrics["time/train_seconds"] == sum(seconds)


@pytest.mark.quick_cases("adamw without average", "a teacher")
@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "adamw", "nesterov": False, "lr": 1e-2, "momentum": 0.8, "ema_decay": 0.0},
        {"clip_norm": 0.5, "precision": "bf16-mixed", "decay_norm_and_bias": True},
        {"epochs": EPOCHS, "augmentation": "resized_crop_flip", "phases": (Phase(0.5, 12, 0.3), Phase(1.0, 16, 1.0))},
        {"teachers": (TEACHER,)},
        {"teachers": (TEACHER,), "augmentation": "none"},
    ],
    ids=["adamw without average", "bf16 with clipping", "inside a phase", "a teacher", "a teacher that runs once"],
)
def test_other_recipes_resume_as_exactly(train, memory, changes, cell, tmp_path):
    results = []
    if "teachers" in changes:
        torch.manual_seed(0)
        path = tmp_path / "teacher.safetensors"
        save_file(build_model(teacher_model(cell, TEACHER), 10).state_dict(), path)
        train = partial(train, files={TEACHER: path})
    for name, stop in (("whole", {}), ("halves", {"after_batch": 6})):
        observer = memory(**stop)
        if stop:
            with pytest.raises(TrainingStopped):
                train(name, observer, **changes)
            history, observer = observer.records, memory()
        result = train(name, observer, **changes)
        observer.records = (history if stop else []) + observer.records
        results.append(outcome(result, observer))
    assert results[0] == results[1]


def test_a_stop_leaves_the_previous_checkpoint_untouched(train, memory, tmp_path):
    path = tmp_path / "cell" / "last.ckpt"
    with pytest.raises(TrainingStopped):
        train(observer=memory(after_epoch=1))
    assert not path.exists()
    with pytest.raises(TrainingStopped):
        train(observer=memory(after_batch=5))
    before = path.read_bytes()
    with pytest.raises(TrainingStopped):
        train(observer=memory(after_epoch=2))
    assert path.read_bytes() == before
    assert [item.name for item in path.parent.iterdir()] == ["last.ckpt"]


def test_a_checkpoint_that_cannot_be_written_leaves_the_previous_one(train, memory, tmp_path, monkeypatch):
    with pytest.raises(TrainingStopped):
        train(observer=memory(after_batch=5))
    path = tmp_path / "cell" / "last.ckpt"
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pytorch_lightning.Trainer.save_checkpoint", full)
    with pytest.raises(OSError, match="No space left"):
        train()
    assert path.read_bytes() == before
    assert [item.name for item in path.parent.iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "foreign", "pickle"])
def test_a_broken_checkpoint_is_named_with_its_cure(train, memory, tmp_path, damage):
    with pytest.raises(TrainingStopped):
        train(observer=memory(after_batch=5))
    path = tmp_path / "cell" / "last.ckpt"
    content = path.read_bytes()
    if damage == "foreign":
        torch.save({"state_dict": {}}, path)
    elif damage == "pickle":
        torch.save({"history": [memory]}, path)  # a class, which weights-only loading refuses
    else:
        path.write_bytes({"cut": content[: len(content) // 2], "empty": b"", "text": b"not a checkpoint"}[damage])
    with pytest.raises(InputError) as caught:
        train()
    assert str(caught.value) == (f"{path}: not a checkpoint of this version; delete it to start this cell afresh")
    path.unlink()
    train()


def test_the_checkpoint_is_plain_and_holds_raw_and_averaged_weights(train, tmp_path):
    result = train()
    content = torch.load(tmp_path / "cell" / "last.ckpt", weights_only=True)
    state, kept = content["state_dict"], load_file(result.weights)
    for name, tensor in kept.items():
        assert torch.equal(state[f"averaged.module.{name}"], tensor)
    assert not torch.equal(state["network.head.fc.weight"], kept["head.fc.weight"])
    assert [record["epoch"] for record in content["history"]] == [1, 2]
