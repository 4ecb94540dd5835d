"""Both forms of three networks, measured by a short protocol: metrics, ratios and refusals."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mobileone_core.benchmark.measure import measure
from mobileone_core.benchmark.protocol import Protocol
from mobileone_core.benchmark.spec import Entry, FormsSpec
from mobileone_core.data.spec import DataSpec
from mobileone_core.model.cost import model_cost
from mobileone_core.model.spec import ModelSpec
from mobileone_core.training.cell import CellSpec
from mobileone_core.training.execution import Execution
from mobileone_core.training.observer import TrainingFailed, TrainingStopped
from mobileone_core.training.recipe import Recipe

PROTOCOL = Protocol(rounds=6, burst=2, warmup=1)


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


def measured(spec, progress=lambda _: None, execution=None):
    execution = execution or Execution("cpu", blocks="branches")
    return {(item.label, item.form): item for item in measure(spec, execution=execution, progress=progress)}


def metrics_of(results):
    return {name: item.metrics for name, item in results.items()}


@pytest.fixture(scope="module")
def results(spec):
    return measured(spec)


def test_every_arm_has_both_forms(results):
    assert list(results) == [(label, form) for label in ("off", "1", "4") for form in ("train", "deployed")]
    assert [item.factors for item in results.values()][::2] == [{"k": "off"}, {"k": "1"}, {"k": "4"}]


def test_metrics_by_form(results):
    """All are there, and finite; over_deployed belongs to train forms, control to the baseline."""
    common = {"params", "macs", "host/load"}
    for call in ("step", "inference"):
        common |= {f"time/{call}{part}_ms" for part in ("", "_low", "_high", "_min", "_p90")}
        common |= {f"time/{call}_ratio{part}" for part in ("", "_low", "_high")} | {f"memory/{call}_bytes"}
    for result in results.values():
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
    samples = {name: item.samples for name, item in results.items()}
    metrics = metrics_of(results)
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
    metrics = metrics_of(results)
    for entry in spec.entries:
        cost = model_cost(entry.cell.model, 16, 10)
        for form in ("train", "deployed"):
            counted = metrics[entry.label, form]
            assert (counted["params"], counted["macs"]) == (getattr(cost, form).params, getattr(cost, form).macs)


def test_memory_of_branches(results):
    """Each branch keeps its output for the backward; deployed forms are alike whatever was folded into them."""
    step = {name: metrics["memory/step_bytes"] for name, metrics in metrics_of(results).items()}
    assert step["off", "train"] < step["1", "train"] < step["4", "train"]
    assert step["off", "deployed"] == step["1", "deployed"] == step["4", "deployed"]
    for label in ("off", "1", "4"):
        expected = step[label, "train"] / step[label, "deployed"]
        assert metrics_of(results)[label, "train"]["memory/step_over_deployed"] == expected > 1


@pytest.mark.slow
def test_memory_and_counts_are_the_same_twice(spec, results):
    again = metrics_of(measured(spec))
    for name, metrics in metrics_of(results).items():
        timeless = {key for key in metrics if key.startswith(("memory/", "params", "macs"))}
        assert {key: metrics[key] for key in timeless} == {key: again[name][key] for key in timeless}
        assert len(timeless) >= 4


def test_progress_counts_preparations_and_rounds(spec):
    rounds = []
    measured(replace(spec, entries=spec.entries[1:2]), rounds.append)
    assert rounds == [0, 1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("when", [0, 2])
def test_progress_can_stop_it(spec, when):
    def stop(number):
        if number == when:
            raise TrainingStopped

    with pytest.raises(TrainingStopped):
        measured(replace(spec, entries=spec.entries[1:2]), stop)


@pytest.mark.slow
def test_a_network_that_explodes_is_no_measurement(spec, monkeypatch):
    monkeypatch.setattr("mobileone_core.benchmark.subjects.forms.LEARNING_RATE", 1e20)
    with pytest.raises(TrainingFailed, match="4, train form: the loss of the timed steps is"):
        measured(replace(spec, entries=(replace(spec.entries[2], reference="4"),)))


def test_threads_are_those_of_the_execution(spec, monkeypatch):
    """Requested, not used: two threads on a busy machine wait for each other."""
    requested, before = [], torch.get_num_threads()
    monkeypatch.setattr(torch, "set_num_threads", requested.append)

    def stop(number):
        raise TrainingStopped

    with pytest.raises(TrainingStopped):
        measured(spec, stop, Execution("cpu", threads=2, processes=2))
    assert requested == [1, 2, before]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("channels_last", [False, True])
def test_a_gpu_measures_the_same_things(spec, results, channels_last):
    execution = Execution("cuda", channels_last=channels_last)
    first, second = (metrics_of(measured(spec, execution=execution)) for _ in range(2))
    for name, metrics in metrics_of(results).items():
        assert set(first[name]) == set(metrics)
        assert first[name]["memory/step_bytes"] == second[name]["memory/step_bytes"] > 0
    assert first["1", "train"]["memory/step_bytes"] < first["4", "train"]["memory/step_bytes"]
