"""A small comparison measured for real: rows, figures from kept samples, refusals, and what stays as it was."""

import gc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mobileone_core.benchmark.measure import measure
from mobileone_core.benchmark.protocol import Protocol
from mobileone_core.benchmark.samples import Samples
from mobileone_core.benchmark.spec import Entry, LatencySpec
from mobileone_core.benchmark.subjects import Prepared
from mobileone_core.benchmark.subjects import latency as module
from mobileone_core.benchmark.subjects.latency import LatencySubject
from mobileone_core.errors import InputError
from mobileone_core.latency.cell import Chain, LatencyCell, NamedNetwork, Runtime
from mobileone_core.model.cost import model_cost
from mobileone_core.training.execution import Execution

pytestmark = pytest.mark.usefixtures("onnx_registry")
PROTOCOL = Protocol(rounds=6, burst=3)
TINY = LatencyCell(NamedNetwork("mobileone_tiny"), image_size=32, num_classes=10)

TIMES = {f"latency/{name}_ms" for name in ("median", "median_low", "median_high", "min", "p90", "mean", "process")}
RATIOS = {f"latency/ratio{end}" for end in ("", "_low", "_high")}
CONTROLS = {True: {"control/latency_ratio"}, False: set()}


def entry(label, cell, reference="tiny"):
    return Entry(label, {"model": label}, cell, reference)


def spec_of(*entries, protocol=PROTOCOL):
    return LatencySpec((entry("tiny", TINY), *entries), protocol)


def measure_latency(spec, progress=lambda _: None):
    return measure(spec, execution=Execution(), progress=progress)


@pytest.fixture(scope="module")
def measured():
    reported = []
    spec = spec_of(
        entry("train", replace(TINY, network=NamedNetwork("mobileone_tiny", form="train"))),
        entry("eager", replace(TINY, runtime=Runtime("torch"))),
        entry("chain", replace(TINY, network=Chain(depth=2, width=8))),
        entry("batch", replace(TINY, batch_size=4)),
        entry("missing", replace(TINY, network=NamedNetwork("mobilenext_x1_0"))),
    )
    return spec, {row.label: row for row in measure_latency(spec, reported.append)}, reported


def test_every_arm_has_a_row_and_is_told_of(measured):
    spec, rows, reported = measured
    assert list(rows) == [item.label for item in spec.entries]
    assert reported == [0] * len(spec.entries) + list(range(1, PROTOCOL.rounds + 1))
    assert {row.form for row in rows.values()} == {""}


def test_all_samples_are_kept_and_give_every_figure(measured):
    _, rows, _ = measured
    for row in rows.values():
        counts = {name for name in ("params", "macs", "host/load") if name in row.metrics}
        if row.unmeasured:
            assert set(row.metrics) == counts
            continue
        others = {name for name in row.metrics if name.startswith(("unfolded/", "throughput/"))}
        assert set(row.metrics) - counts - others == TIMES | RATIOS | CONTROLS[row.label == "tiny"]
        own, reference = (np.median(item.samples["latency"], axis=1) for item in (row, rows["tiny"]))
        assert row.metrics["latency/median_ms"] == pytest.approx(np.median(own))
        assert row.metrics["latency/ratio"] == pytest.approx(np.median(own / reference))
        assert row.metrics["latency/process_ms"] == np.median(row.samples["process"])
    assert np.shape(rows["train"].samples["latency"]) == (PROTOCOL.rounds, PROTOCOL.burst)
    assert set(rows["tiny"].samples) == {"latency", "latency_control", "process"}
    assert set(rows["train"].samples) == {"latency", "process"}


def test_the_reference_is_measured_against_itself(measured):
    _, rows, _ = measured
    assert rows["tiny"].metrics["latency/ratio"] == 1
    assert "control/latency_ratio" in rows["tiny"].metrics
    assert "control/latency_ratio" not in rows["train"].metrics


def test_counts_are_those_of_the_timed_form(measured):
    _, rows, _ = measured
    cost = model_cost("tiny", 32, 10)
    for label, form in (("tiny", cost.deployed), ("train", cost.train), ("eager", cost.deployed)):
        assert (rows[label].metrics["params"], rows[label].metrics["macs"]) == (form.params, form.macs)


def test_a_batch_above_one_has_its_images_per_second(measured):
    _, rows, _ = measured
    metrics = rows["batch"].metrics
    speed = [metrics[f"throughput/images_per_second{end}"] for end in ("_low", "", "_high")]
    assert speed == sorted(speed)
    assert speed[1] == pytest.approx(4000 / metrics["latency/median_ms"])
    assert rows["batch"].metrics["macs"] == rows["tiny"].metrics["macs"]
    assert "throughput/images_per_second" not in rows["tiny"].metrics


def test_folding_is_recorded_with_the_parameters_before_it(measured):
    _, rows, _ = measured
    assert rows["tiny"].metrics["unfolded/params"] == rows["train"].metrics["params"] > rows["tiny"].metrics["params"]
    assert rows["tiny"].metrics["unfolded/difference"] < 1e-4
    assert "unfolded/params" not in {*rows["train"].metrics, *rows["chain"].metrics}


def test_a_network_that_no_library_has_is_a_reason_not_a_time(measured):
    row = measured[1]["missing"]
    assert row.unmeasured == "MobileNeXt-x1.0: no supported library has it"
    assert row.samples == {}
    assert set(row.metrics) == {"host/load"}


def test_tags_say_how_it_ran(measured):
    _, rows, _ = measured
    tags = rows["tiny"].tags
    assert (tags["runtime"], tags["provider"], tags["threads"]) == ("onnxruntime", "CPUExecutionProvider", "1")
    assert tags["runtime_version"].startswith("onnxruntime ")
    assert rows["eager"].tags["runtime_version"] == f"torch {torch.__version__}"


def test_a_wrong_output_is_no_latency(monkeypatch):
    monkeypatch.setitem(module.TOLERANCES, "float32", -1.0)
    (row,) = measure_latency(spec_of())
    assert row.samples == {}
    assert "wrong output" in row.unmeasured
    assert row.metrics["params"] == model_cost("tiny", 32, 10).deployed.params


def test_what_a_runtime_answers_is_one_line(monkeypatch):
    def fails(subject):
        raise RuntimeError("\nno kernel for this\nand a long story")

    monkeypatch.setattr(module.runtimes, "prepare", fails)
    (row,) = measure_latency(spec_of())
    assert row.unmeasured == "onnxruntime: RuntimeError: no kernel for this"


def test_an_unknown_network_ends_the_measurement():
    with pytest.raises(InputError, match="model: 'nothing' is not allowed; one of mobileone_s0"):
        measure_latency(spec_of(entry("x", replace(TINY, network=NamedNetwork("nothing")))))


def test_threads_collection_and_random_state_are_as_before():
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    runtime = Runtime("torch", threads=threads + 1)
    spec = LatencySpec((entry("tiny", replace(TINY, runtime=runtime)),), PROTOCOL)
    seen = []

    def tell(number):
        if number:
            seen.append((torch.get_num_threads(), gc.isenabled()))

    measure_latency(spec, tell)
    assert set(seen) == {(threads + 1, False)}
    assert (torch.get_num_threads(), gc.isenabled()) == (threads, True)
    assert torch.equal(torch.get_rng_state(), state)


def test_modelbench_reloads_every_round_and_reports_low_and_average(monkeypatch):
    prepare, opened = module.runtimes.prepare, []

    def counted(source):
        opener = prepare(source)
        return lambda: opened.append(source) or opener()

    monkeypatch.setattr(module.runtimes, "prepare", counted)
    protocol = Protocol(rounds=6, burst=5, warmup=0, trim=2, reload=True)
    (row,) = measure_latency(spec_of(protocol=protocol))
    assert len(opened) == 2 * (1 + protocol.rounds)  # the control too
    middle = np.sort(row.samples["latency"], axis=1)[:, 2]
    assert row.metrics["latency/low_ms"] == middle.min()
    assert row.metrics["latency/average_ms"] == pytest.approx(middle.mean())


times = arrays(np.float64, (8, 7), elements=st.floats(0.01, 1e3))


def metrics_of(own, other=None, protocol=PROTOCOL):
    """The metrics of an entry with these times, and a reference with those."""
    reference, timed = (Prepared(entry(label, TINY)) for label in ("tiny", "x"))
    samples = Samples({"latency x": own, "latency tiny": other}, {"latency x": np.full(8, 0.5)})
    others = [timed] if other is None else [reference, timed]
    return LatencySubject(LatencySpec((reference.entry,), protocol), Execution(), Path()).metrics(
        timed, others, samples
    )


@pytest.mark.slow
@given(times, times)
def test_metrics_are_what_their_names_say(own, other):
    metrics = metrics_of(own, other)
    medians, others = np.median(own, axis=1), np.median(other, axis=1)
    ordered = np.sort(medians)
    assert set(metrics) == TIMES | RATIOS
    assert metrics["latency/median_ms"] == pytest.approx(np.median(medians))
    assert (metrics["latency/median_low_ms"], metrics["latency/median_high_ms"]) == (ordered[0], ordered[-1])
    assert metrics["latency/min_ms"] == own.min()
    assert metrics["latency/mean_ms"] == pytest.approx(own.mean())
    assert metrics["latency/p90_ms"] == pytest.approx(np.quantile(own, 0.9))
    assert metrics["latency/process_ms"] == 0.5
    assert metrics["latency/ratio"] == pytest.approx(np.median(medians / others))
    assert metrics["latency/ratio_low"] == pytest.approx((medians / others).min())


def test_without_a_timed_reference_there_is_no_ratio():
    assert set(metrics_of(np.ones((8, 2)))) == TIMES


@given(times, st.integers(0, 3))
def test_trimming_leaves_the_middle_of_every_round(rounds, trim):
    left = [sorted(burst)[trim : 7 - trim] for burst in rounds.tolist()]
    low, average = Samples({"x": rounds}).trimmed("x", trim)
    assert low == min(min(burst) for burst in left)
    assert average == pytest.approx(np.mean(left))


@pytest.mark.slow
def test_the_example_of_the_card_runs(capsys):
    text = Path(module.__file__).parents[1].joinpath("README.md").read_text()
    example = text.partition("```python\n")[2].partition("```")[0]
    small = example.replace("NamedNetwork(name))", "NamedNetwork(name), image_size=32)")
    exec(small.replace("mobilenet_v2", "mobileone_tiny"), {})
    assert len(capsys.readouterr().out.splitlines()) == 2 + 20 + 2  # preparations, rounds, results
