"""Multi-scale batches in training: exact on resume, in one process and in two; CoreNet's recipe on a CPU."""

import itertools
from dataclasses import replace
from functools import partial

import pytest
import torch
from safetensors.torch import load_file

from mobileone_core.training.execution import Execution, resolve_precision
from mobileone_core.training.observer import TrainingStopped
from mobileone_core.training.recipe import corenet_scales
from mobileone_core.training.recipe_presets import recipe_preset

CHANGES = {"scales": (16, 20, 32, 40), "epochs": 3, "batch_size": 256}


def outcome(result, records):
    history = [(record.epoch, record.step, record.metrics["train/loss"]) for record in records]
    return history, {name: tensor.numpy().tobytes() for name, tensor in load_file(result.weights).items()}


@pytest.fixture(scope="module")
def whole(train_at, memory, tmp_path_factory):
    observer = memory()
    return outcome(train_at(tmp_path_factory.mktemp("whole"), observer, **CHANGES), observer.records)


def test_epochs_have_other_numbers_of_steps_and_each_is_validated(whole):
    history, _ = whole
    ends = [0, *(step for _, step, _ in history)]
    assert [epoch for epoch, _, _ in history] == [1, 2, 3]
    assert len({end - start for start, end in itertools.pairwise(ends)}) > 1


@pytest.mark.quick_cases("{'after_epoch': 2}")
@pytest.mark.parametrize("stop", [{"after_batch": 2}, {"after_batch": 23}, {"after_epoch": 2}], ids=str)
def test_an_interrupted_cell_ends_as_an_uninterrupted_one(train, memory, whole, stop):
    first = memory(**stop)
    with pytest.raises(TrainingStopped):
        train(observer=first, **CHANGES)
    second = memory()
    result = train(observer=second, **CHANGES)
    assert outcome(result, [*(second.resumed_with or []), *second.records]) == whole


@pytest.mark.slow
def test_two_processes_read_the_same_batches_and_resume_exactly(train, memory, whole):
    both = partial(train, execution=Execution("cpu", processes=2), **CHANGES)
    observer = memory()
    result = outcome(both("two", observer), observer.records)
    assert [step for _, step, _ in result[0]] == [step for _, step, _ in whole[0]]
    with pytest.raises(TrainingStopped):
        both(observer=memory(after_batch=15))
    second = memory()
    assert outcome(both(observer=second), [*second.resumed_with, *second.records]) == result


def test_mixed_is_float16_on_a_gpu_and_32_on_a_cpu(train, whole, memory):
    assert resolve_precision(torch.device("cuda"), "mixed") == "16-mixed"
    observer = memory()
    assert outcome(train(observer=observer, precision="mixed", **CHANGES), observer.records) == whole


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("precision", ["32", "16-mixed", "mixed"])
def test_mixed_brings_channels_last_memory_on_a_gpu_alone(channels_last, device, precision):
    layout = Execution("auto", channels_last=channels_last).memory_format(torch.device(device), precision)
    is_last = channels_last or (device, precision) == ("cuda", "mixed")
    assert layout == (torch.channels_last if is_last else torch.contiguous_format)


def test_scales_follow_the_images_and_belong_to_classification(cell):
    spec = replace(cell, recipe=recipe_preset("corenet", "tiny", cell.data.image_size))
    assert spec.changed({"data.image_size": 64}).recipe.scales == corenet_scales(64)
    assert spec.changed({"recipe": "corenet", "recipe.epochs": 2}).recipe.epochs == 2
