"""Both forms of three networks, measured by a short protocol: what is there, what must hold, who is told."""

from dataclasses import replace
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from mobileone_core.benchmark.protocol import Protocol
from mobileone_core.benchmark.spec import Entry, FormsSpec
from mobileone_core.benchmark.subjects.forms import compare_forms
from mobileone_core.data.spec import DataSpec
from mobileone_core.model.cost import model_cost
from mobileone_core.model.spec import ModelSpec
from mobileone_core.training.cell import CellSpec
from mobileone_core.training.execution import Execution
from mobileone_core.training.observer import TrainingFailed, TrainingStopped
from mobileone_core.training.recipe import Recipe

PROTOCOL = Protocol(rounds=6, burst=2, warmup=1)


@pytest.fixture(scope="module", autouse=True)
def _threads():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def spec():
    model = ModelSpec(widths=(8, 12), depths=(1, 1), k=1, stage_strides=(2, 2), in_channels=1)
    recipe = Recipe(epochs=1, batch_size=16, nesterov=True)
    levels = {"off": model.changed(reparam=False), "1": model, "4": replace(model, k=4)}
    entries = (
        Entry(label, {"k": label}, CellSpec(changed, DataSpec(image_size=16), recipe), "1")
        for label, changed in levels.items()
    )
    return FormsSpec(tuple(entries), PROTOCOL)


def measure(spec, observer, execution=None):
    return compare_forms(
        spec, execution=execution or Execution("cpu", blocks="branches"), data_root=None, observer=observer
    )


@pytest.fixture(scope="module")
def results(spec):
    return measure(spec, Mock())


def by_name(results):
    return {(result.label, result.form): result.metrics for result in results}


def test_every_arm_has_both_forms(results):
    assert [(result.label, result.form) for result in results] == [
        (label, form) for label in ("off", "1", "4") for form in ("train", "deployed")
    ]
    assert [result.factors for result in results[::2]] == [{"k": "off"}, {"k": "1"}, {"k": "4"}]


def test_metrics_by_form(results):
    """All are there, and finite; over_deployed belongs to train forms, control to the baseline."""
    common = {"params", "macs", "host/load"}
    for call in ("step", "inference"):
        common |= {f"time/{call}{part}_ms" for part in ("", "_low", "_high", "_min", "_p90")}
        common |= {f"time/{call}_ratio{part}" for part in ("", "_low", "_high")} | {f"memory/{call}_bytes"}
    for result in results:
        expected = set(common)
        for call in ("step", "inference"):
            if result.form == "train":
                expected |= {f"time/{call}_over_deployed{part}" for part in ("", "_low", "_high")}
                expected.add(f"memory/{call}_over_deployed")
            if result.label == "1":
                expected.add(f"control/{call}_ratio")
        assert set(result.metrics) == expected
        assert np.isfinite(list(result.metrics.values())).all()


def test_times_come_from_the_samples(results):
    """Every sample is kept; medians and ratios follow from them."""
    samples = {(result.label, result.form): result.samples for result in results}
    metrics = by_name(results)
    for (label, form), kept in samples.items():
        twins = {"step_control", "inference_control"} if label == "1" else set()
        assert set(kept) == {"step", "inference"} | twins
        for call in ("step", "inference"):
            own, base = (np.array(times[call]) for times in (kept, samples["1", "train"]))
            assert own.shape == (6, 2)
            mine = metrics[label, form]
            assert mine[f"time/{call}_ms"] == pytest.approx(np.median(own.mean(1)))
            assert mine[f"time/{call}_min_ms"] == own.min()
            assert mine[f"time/{call}_ratio"] == pytest.approx(np.median(own.mean(1) / base.mean(1)))
            if form == "train":
                plain = np.array(samples[label, "deployed"][call])
                expected = np.median(own.mean(1) / plain.mean(1))
                assert mine[f"time/{call}_over_deployed"] == pytest.approx(expected)
            if twins:
                expected = np.median(np.array(kept[f"{call}_control"]).mean(1) / own.mean(1))
                assert mine[f"control/{call}_ratio"] == pytest.approx(expected)


def test_counts_are_the_networks(spec, results):
    metrics = by_name(results)
    for entry in spec.entries:
        cost = model_cost(entry.cell.model, 16, 10)
        for form in ("train", "deployed"):
            counted = metrics[entry.label, form]
            assert (counted["params"], counted["macs"]) == (getattr(cost, form).params, getattr(cost, form).macs)


def test_memory_of_branches(results):
    """Each branch keeps its output for the backward; deployed forms are alike whatever was folded into them."""
    step = {name: metrics["memory/step_bytes"] for name, metrics in by_name(results).items()}
    assert step["off", "train"] < step["1", "train"] < step["4", "train"]
    assert step["off", "deployed"] == step["1", "deployed"] == step["4", "deployed"]
    for label in ("off", "1", "4"):
        expected = step[label, "train"] / step[label, "deployed"]
        assert by_name(results)[label, "train"]["memory/step_over_deployed"] == expected > 1


def test_memory_and_counts_are_the_same_twice(spec, results, memory):
    again = by_name(measure(spec, memory()))
    for name, metrics in by_name(results).items():
        timeless = {key for key in metrics if key.startswith(("memory/", "params", "macs"))}
        assert {key: metrics[key] for key in timeless} == {key: again[name][key] for key in timeless}
        assert len(timeless) >= 4


def test_the_observer_is_told_after_every_round(spec, memory):
    observer = memory()
    measure(replace(spec, entries=spec.entries[1:2]), observer)
    assert [record.epoch for record in observer.records] == [1, 2, 3, 4, 5, 6]
    assert all(record.metrics == {} and record.step == 0 for record in observer.records)
    times = [record.time_ms for record in observer.records]
    assert times == sorted(times)


@pytest.mark.parametrize("when", [{"after_batch": 1}, {"after_batch": 3}, {"after_epoch": 2}])
def test_the_observer_can_stop_it(spec, memory, when):
    observer = memory(**when)
    with pytest.raises(TrainingStopped):
        measure(replace(spec, entries=spec.entries[1:2]), observer)
    assert len(observer.records) <= 2


def test_a_network_that_explodes_is_no_measurement(spec, memory, monkeypatch):
    monkeypatch.setattr("mobileone_core.benchmark.subjects.forms.LEARNING_RATE", 1e20)
    with pytest.raises(TrainingFailed, match="4, train form: the loss of the timed steps is"):
        measure(replace(spec, entries=(replace(spec.entries[2], reference="4"),)), memory())


def test_threads_are_those_of_the_execution(spec, memory, monkeypatch):
    """Asked for, not used: two threads on a busy machine wait for each other."""
    asked = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    with pytest.raises(TrainingStopped):
        measure(spec, memory(after_batch=1), Execution("cpu", threads=2, processes=2))
    assert asked == [2]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("channels_last", [False, True])
def test_a_gpu_measures_the_same_things(spec, results, memory, channels_last):
    execution = Execution("cuda", channels_last=channels_last)
    first, second = (by_name(measure(spec, memory(), execution)) for _ in range(2))
    for name, metrics in by_name(results).items():
        assert set(first[name]) == set(metrics)
        assert first[name]["memory/step_bytes"] == second[name]["memory/step_bytes"] > 0
    assert first["1", "train"]["memory/step_bytes"] < first["4", "train"]["memory/step_bytes"]
