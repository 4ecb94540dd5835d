"""A whole cell: what it reports, does, refuses and learns. test_oracle.py has its numbers."""

import math
import os
import shutil
import signal
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mobileone_core.data.loaders import LoaderOptions, open_loaders
from mobileone_core.data.sets import open_splits
from mobileone_core.data.spec import DataSpec
from mobileone_core.errors import InputError
from mobileone_core.model.checkpoints import read_weights
from mobileone_core.model.network import build_model
from mobileone_core.model.spec import ModelSpec
from mobileone_core.training import model_card, run
from mobileone_core.training.cell import CellSpec
from mobileone_core.training.evaluate import read_network
from mobileone_core.training.execution import Execution
from mobileone_core.training.module import CellModule
from mobileone_core.training.observer import TrainingFailed, TrainingStopped
from mobileone_core.training.optimizer import learning_rate, weight_decay
from mobileone_core.training.recipe_presets import recipe_preset
from mobileone_core.training.tasks.classification import Classification


def test_what_a_cell_reports(train, memory, cell):
    observer = memory()
    result = train(observer=observer, epochs=2)
    accuracies = {"val/loss", "val/top1", "val/top5"}
    rates = {"train/loss", "train/learning_rate", "train/weight_decay", "time/epoch_seconds"}
    assert [(record.epoch, record.step) for record in observer.records] == [(1, 4), (2, 8)]
    assert all(record.metrics.keys() == accuracies | rates for record in observer.records)
    assert observer.records[0].time_ms <= observer.records[1].time_ms
    assert observer.batches == 8
    test = {"test/loss", "test/top1", "test/top5", "test/images", "test/majority", "train/steps"}
    test |= {"test/form_difference", "test/form_difference_relative"}
    assert result.metrics.keys() == accuracies | test | {"train/loss", "time/train_seconds"}
    assert (result.metrics["train/steps"], result.metrics["test/majority"]) == (8, pytest.approx(46 / 451))
    last = observer.records[-1].metrics
    assert {name: result.metrics[name] for name in accuracies} == {name: last[name] for name in accuracies}
    recipe = replace(cell.recipe, epochs=2)
    assert last["train/learning_rate"] == learning_rate(recipe, 7 / 8)
    assert last["train/weight_decay"] == weight_decay(recipe, 7 / 8)


def test_kept_weights_are_those_that_were_tested(train, cell):
    result = train()
    network = build_model(cell.model, 10)
    network.load_state_dict(load_file(result.weights))
    options = LoaderOptions(256, "none")
    hits = total = loss = 0.0
    for images, labels in open_loaders(cell.data, None, cell.seed, options).test:
        logits = network.eval()(images)
        hits += (logits.argmax(1) == labels).sum().item()
        loss += torch.nn.functional.cross_entropy(logits, labels, label_smoothing=0.1, reduction="sum").item()
        total += len(labels)
    assert result.metrics["test/images"] == total
    assert result.metrics["test/top1"] == pytest.approx(hits / total, abs=1e-6)
    assert result.metrics["test/loss"] == pytest.approx(loss / total, rel=1e-5)


def test_without_an_average_the_raw_weights_are_kept(train, tmp_path):
    result = train(ema_decay=0.0)
    state = torch.load(tmp_path / "cell" / "last.ckpt", weights_only=True)["state_dict"]
    kept = load_file(result.weights)
    assert state.keys() == {f"network.{name}" for name in kept}
    assert all(torch.equal(state[f"network.{name}"], value) for name, value in kept.items())
    assert result.raw_weights is None
    assert oct((tmp_path / "cell" / "weights.safetensors").stat().st_mode & 0o777) == oct(0o666 & ~umask())


def test_a_checkpoint_needs_no_room_for_temporary_files(train, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "no such directory"))
    train()
    assert torch.load(tmp_path / "cell" / "last.ckpt", weights_only=True)["epoch"] == 1
    with pytest.raises(OSError, match="No space left on device"):
        run.CheckpointFile().save_checkpoint({"weights": torch.ones(9000)}, "/dev/full")


def umask():
    before = os.umask(0)
    os.umask(before)
    return before


def test_averaged_and_raw_weights_are_kept_and_those_of_a_checkpoint_are_chosen(train, cell, tmp_path):
    result, checkpoint = train(), tmp_path / "cell" / "last.ckpt"
    assert result.raw_weights == tmp_path / "cell" / "weights_raw.safetensors"
    kept, raw = load_file(result.weights), load_file(result.raw_weights)
    assert not torch.equal(kept["head.fc.weight"], raw["head.fc.weight"])
    for which, name, state in (("auto", "averaged", kept), ("ema", "averaged", kept), ("model", "network", raw)):
        chosen = read_weights(checkpoint, which)
        network = read_network(cell.model, chosen)
        assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
        assert f"weights state_dict/{name} of {checkpoint}, which also holds" in str(chosen)


def test_seeds_differ(train, cell):
    results = [train(str(seed), spec=replace(cell, seed=seed), epochs=1) for seed in (0, 1)]
    first, second = (load_file(result.weights)["head.fc.weight"] for result in results)
    assert not torch.equal(first, second)


def test_clipping_bounds_the_gradient(train, monkeypatch):
    norms = []

    def note(module, optimizer):
        norms.append(torch.nn.utils.get_total_norm([p.grad for p in module.network.parameters()]).item())

    monkeypatch.setattr(CellModule, "on_before_optimizer_step", note, raising=False)
    plain = train("plain", epochs=1)
    free = list(norms)
    clipped = train("clipped", epochs=1, clip_norm=0.1)
    assert min(free) > 0.2
    assert all(norm > 0.1 for norm in norms[: len(free)])
    assert plain.metrics["train/loss"] != clipped.metrics["train/loss"]


@pytest.mark.slow
def test_bf16_trains_close_to_float32(train):
    half, full = (train(name, precision=name) for name in ("bf16-mixed", "32"))
    assert half.metrics["train/loss"] == pytest.approx(full.metrics["train/loss"], rel=0.05)
    assert half.metrics["train/loss"] != full.metrics["train/loss"]
    assert all(value.dtype != torch.bfloat16 for value in load_file(half.weights).values())


def test_adamw_trains(train, memory):
    observer = memory()
    train(observer=observer, optimizer="adamw", nesterov=False, lr=1e-2, epochs=3)
    losses = [record.metrics["train/loss"] for record in observer.records]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("step", [1, 3])
def test_a_loss_that_is_not_finite_fails_with_epoch_and_step(train, memory, monkeypatch, tmp_path, step):
    original, calls = Classification.loss, []

    def poisoned(self, outputs, targets):
        calls.append(step)
        loss = original(self, outputs, targets)
        return loss * math.nan if len(calls) == 4 + step else loss

    monkeypatch.setattr(Classification, "loss", poisoned)
    observer = memory()
    with pytest.raises(TrainingFailed, match=f"epoch 2, step {step}: the training loss is nan"):
        train(observer=observer)
    assert [record.epoch for record in observer.records] == [1]
    history = torch.load(tmp_path / "cell" / "last.ckpt", weights_only=True)["history"]
    assert [record["epoch"] for record in history] == [1]


def test_a_diverged_run_fails(train):
    with pytest.raises(TrainingFailed, match=r"epoch 1, step \d"):
        train(lr=1e38, warmup_epochs=0)


def test_class_names_are_those_of_the_data_that_are_trained_on(train, memory, monkeypatch):
    """They are read before the images are opened and checked, not at the end, when a folder may be another."""
    names = [("as", "planned")]
    monkeypatch.setattr(model_card, "shown_names", lambda *_: names[-1])

    class Renaming(memory):
        def epoch_finished(self, _):
            names.append(("something", "else"))

    assert train(observer=Renaming(), epochs=1).card["class_names"] == ["as", "planned"]


def test_interrupt_stays_an_interrupt(train, memory):
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(observer=memory(after_batch=2, error=KeyboardInterrupt))
    assert signal.getsignal(signal.SIGINT) is handler


def test_nothing_is_printed(train, capfd, caplog):
    train(epochs=1)
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []


def test_the_test_set_is_opened_once_and_last_and_validation_sees_its_own_images(train, memory, cell, monkeypatch):
    order, seen = [], {"val": [], "test": []}

    def opened(*arguments):
        splits = open_splits(*arguments)
        return splits._replace(test=lambda: order.append("opened") or splits.test())

    def noted(stage, step):
        def note(self, batch):
            order.append(stage)
            seen[stage].append(batch)
            step(self, batch)

        return note

    monkeypatch.setattr("mobileone_core.data.loaders.open_splits", opened)
    for stage, name in (("val", "validation_step"), ("test", "test_step")):
        monkeypatch.setattr(CellModule, name, noted(stage, getattr(CellModule, name)))
    observer = memory()
    observer.epoch_finished = lambda record: order.append(record.epoch)
    train(observer=observer)
    assert order == ["val", 1, "val", 2, "opened", "test", "test"]
    loaders = open_loaders(cell.data, None, cell.seed, LoaderOptions(256, "none"))
    for batches, expected in ((seen["val"], [*loaders.val, *loaders.val]), (seen["test"], [*loaders.test])):
        pairs = zip(batches, expected, strict=True)
        assert all(torch.equal(mine, theirs) for batch, own in pairs for mine, theirs in zip(batch, own, strict=True))


@pytest.mark.parametrize(
    ("execution", "changes", "field"),
    [
        (Execution("cuda:99"), {}, "device"),
        (Execution("cpu"), {"precision": "16-mixed"}, "precision"),
        (Execution("cpu", channels_last=True), {}, "channels_last"),
    ],
)
def test_what_a_device_cannot_do_is_said(train, execution, changes, field):
    with pytest.raises(InputError, match=f"^{field}: "):
        train(execution=execution, **changes)


def test_an_observer_that_stops_is_not_held_back(train, memory):
    observer = memory(after_epoch=1)
    with pytest.raises(TrainingStopped):
        train(observer=observer)
    assert observer.batches == 4


@pytest.mark.slow
def test_the_embedded_default_learns(train, memory):
    """Two thirds of the default's epochs; chance is 0.1."""
    observer = memory()
    spec = CellSpec(ModelSpec.preset("tiny", k=1, in_channels=1), DataSpec(), recipe_preset("digits"))
    result = train(observer=observer, spec=spec, epochs=8)
    losses = [record.metrics["train/loss"] for record in observer.records]
    assert losses[-1] < losses[0]
    assert result.metrics["test/top1"] > 0.9


def test_the_embedded_default_has_a_fitting_average():
    recipe = recipe_preset("digits")
    steps = len(open_loaders(DataSpec(), None, 0, LoaderOptions(recipe.batch_size, recipe.augmentation)).train)
    assert recipe.shortages(recipe.epochs * steps) == []


@pytest.mark.slow
@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="needs a C++ compiler")
def test_a_compiled_cell_trains_as_a_plain_one(train, cell, monkeypatch):
    """Two blocks: what the compiler is told to do does not depend on how many there are, but its time does."""
    monkeypatch.setattr("torch._inductor.config.compile_threads", 1)  # else it starts interpreters of its own
    small = replace(cell, model=cell.model.changed(widths=(8,), depths=(1,), stage_strides=(2,), k=1))
    compiled, plain = (
        train(str(on), execution=Execution("cpu", compile=on), spec=small, epochs=1) for on in (True, False)
    )
    assert compiled.metrics["train/loss"] == pytest.approx(plain.metrics["train/loss"], rel=1e-3)
    assert load_file(compiled.weights).keys() == load_file(plain.weights).keys()


@pytest.mark.slow
def test_the_example_of_the_card_runs(tmp_path, monkeypatch):
    text = Path(run.__file__).with_name("README.md").read_text()
    example = text.partition("```python\n")[2].partition("```")[0]
    small = example.replace('recipe_preset("digits")', 'recipe_preset("digits").changed(epochs=1)')
    monkeypatch.chdir(tmp_path)
    exec(small, {})
    assert (tmp_path / "cell" / "weights.safetensors").is_file()
