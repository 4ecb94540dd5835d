"""Training steps of small networks measured by a short protocol: what is there, what must hold, who is told."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mobileone_core.benchmark.measure import measure
from mobileone_core.benchmark.protocol import Protocol
from mobileone_core.benchmark.spec import Entry, StepCell, StepSpec
from mobileone_core.benchmark.subjects import step as module
from mobileone_core.benchmark.subjects.step import build_step
from mobileone_core.errors import InputError
from mobileone_core.training.execution import Execution
from mobileone_core.training.observer import TrainingFailed, TrainingStopped

PROTOCOL = Protocol(rounds=6, burst=2, warmup=1, untimed=0)
TINY = StepCell("tiny", batch_size=16, image_size=32, num_classes=10, threads=1)
TIMM = StepCell("s1", batch_size=16, image_size=32, num_classes=10, threads=1)


def spec_of(*cells, protocol=PROTOCOL):
    labels = [f"{cell.path} {cell.k}" for cell in cells]
    entries = (Entry(label, {"k": cell.k}, cell, labels[0]) for label, cell in zip(labels, cells, strict=True))
    return StepSpec(tuple(entries), protocol)


def measure_steps(spec, progress=lambda _: None):
    return measure(spec, execution=Execution(), progress=progress)


@pytest.fixture(scope="module")
def progress():
    return []


@pytest.fixture(scope="module")
def results(progress):
    """Branches and folded, k = 1 and 4."""
    threads = torch.get_num_threads()
    cells = [replace(TINY, k=k, path=path) for path in ("branches", "folded") for k in (1, 4)]
    found = {item.label: item for item in measure_steps(spec_of(*cells), progress.append)}
    assert torch.get_num_threads() == threads
    return found


def test_every_arm_has_its_figures(results):
    assert list(results) == ["branches 1", "branches 4", "folded 1", "folded 4"]
    held = {"memory/saved_bytes", "memory/step_bytes", "params", "host/load"}
    times = {f"time/step{part}_ms" for part in ("", "_low", "_high", "_min", "_p90")}
    for label, item in results.items():
        expected = held | times
        for name in ("ratio", "growth", *(["over_branches"] if label.startswith("folded") else [])):
            expected |= {f"time/step_{name}{end}" for end in ("", "_low", "_high")}
            expected |= {f"memory/saved_{name}", f"memory/step_{name}"}
        expected |= {"control/step_ratio"} if label == "branches 1" else set()
        assert set(item.metrics) == expected
        assert np.isfinite(list(item.metrics.values())).all()
        assert not item.unmeasured
        assert item.tags["device"] == "cpu"
        assert (item.tags["threads"], item.tags["precision"]) == ("1", "32")


def test_times_and_ratios_come_from_the_samples(results):
    own = {label: np.median(item.samples["step"], axis=1) for label, item in results.items()}
    assert {label: set(item.samples) for label, item in results.items()} == {
        label: {"step", "step_control"} if label == "branches 1" else {"step"} for label in results
    }
    for label, item in results.items():
        path, k = label.split()
        assert np.shape(item.samples["step"]) == (6, 2)
        assert item.metrics["time/step_ms"] == pytest.approx(np.median(own[label]))
        for name, other in (("ratio", "branches 1"), ("growth", f"{path} 1"), ("over_branches", f"branches {k}")):
            if label != f"branches {k}" or name != "over_branches":
                ratio = np.median(own[label] / own[other])
                assert item.metrics[f"time/step_{name}"] == pytest.approx(ratio)
                saved = item.metrics["memory/saved_bytes"] / results[other].metrics["memory/saved_bytes"]
                assert item.metrics[f"memory/saved_{name}"] == saved
    twin = np.median(results["branches 1"].samples["step_control"], axis=1)
    control = results["branches 1"].metrics["control/step_ratio"]
    assert control == pytest.approx(np.median(twin / own["branches 1"]))


def test_branches_keep_more_with_k_and_the_folded_step_less(results):
    kept = {label: item.metrics["memory/saved_bytes"] for label, item in results.items()}
    assert kept["folded 1"] < kept["branches 1"]
    assert kept["folded 4"] < kept["branches 4"]
    assert kept["branches 4"] / kept["branches 1"] > kept["folded 4"] / kept["folded 1"]
    assert results["folded 4"].metrics["params"] == results["branches 4"].metrics["params"]


def test_progress_counts_preparations_and_rounds(results, progress):
    assert progress == [0, 0, 0, 0, 1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("when", [0, 2])
def test_progress_can_stop_it(when):
    def stop(number):
        if number == when:
            raise TrainingStopped

    with pytest.raises(TrainingStopped):
        measure_steps(spec_of(TINY), stop)


def test_timm_starts_from_the_same_weights_and_says_the_same():
    own, timm = build_step(TIMM), build_step(replace(TIMM, path="timm"))
    assert type(timm.network).__module__.startswith("timm")
    assert torch.equal(own.images, timm.images)
    mine, theirs = (dict(step.network.named_parameters()) for step in (own, timm))
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in mine.items())
    with torch.no_grad():
        torch.testing.assert_close(timm.logits(), own.logits(), rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_timm_is_measured_beside_the_branches():
    protocol = Protocol(rounds=6, burst=1, warmup=0, untimed=0)
    _, timm = measure_steps(spec_of(TIMM, replace(TIMM, path="timm"), protocol=protocol))
    assert not timm.unmeasured
    assert timm.metrics["memory/saved_over_branches"] == pytest.approx(1, abs=0.01)
    assert timm.tags["version.timm"]
    assert "time/step_growth" not in timm.metrics  # one k alone


def test_a_path_that_computes_something_else_is_not_timed(monkeypatch):
    def strange(cell):
        return build_step(replace(cell, k=cell.k + (cell.path == "folded")))

    monkeypatch.setattr(module, "build_step", strange)
    branches, folded = measure_steps(spec_of(TINY, replace(TINY, path="folded")))
    assert branches.metrics["time/step_ms"] > 0
    assert "wrong logits" in folded.unmeasured
    assert not folded.samples
    assert not any(name.startswith("time/") for name in folded.metrics)


def test_a_network_that_timm_has_not_is_refused():
    with pytest.raises(InputError, match="timm has mobileone_s1 with k = 1 alone"):
        build_step(replace(TIMM, path="timm", k=2))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(InputError, match="0 CUDA devices"):
        build_step(replace(TINY, device="cuda"))


@pytest.mark.slow
def test_a_step_that_explodes_is_no_measurement(monkeypatch):
    monkeypatch.setattr("mobileone_core.benchmark.subjects.step.LEARNING_RATE", 1e20)
    with pytest.raises(TrainingFailed, match="branches 4: the loss of the timed steps is"):
        measure_steps(spec_of(replace(TINY, k=4)))


def test_a_step_in_half_precision_keeps_less():
    full, half = (build_step(replace(TINY, precision=precision)) for precision in ("32", "bf16-mixed"))
    kept = [module.saved_bytes(step.logits, step.network.parameters()) for step in (full, half)]
    assert kept[1] < kept[0]
    half()
    assert half.loss.isfinite()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_measures_the_same_things(results):
    cells = [replace(TINY, k=k, path=path, device="cuda") for path in ("branches", "folded") for k in (1, 4)]
    for item in measure_steps(spec_of(*cells)):
        assert set(item.metrics) == set(results[item.label].metrics)
        assert item.tags["device"].startswith("cuda:0 ")


@pytest.mark.parametrize("cell", [TINY, TIMM, replace(TIMM, path="timm")], ids=["tiny", "s1", "timm"])
def test_building_a_step_leaves_the_random_state_alone(cell):
    before = torch.get_rng_state()
    build_step(cell)
    assert torch.equal(torch.get_rng_state(), before)
