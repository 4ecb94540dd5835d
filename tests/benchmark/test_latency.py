"""A small comparison measured for real: rows, figures from kept samples, refusals, and what stays as it was."""

import gc
from dataclasses import replace

import numpy as np
import pytest
import torch

from mobileone_core.benchmark.figures import latency_figures
from mobileone_core.benchmark.protocol import Protocol
from mobileone_core.benchmark.spec import Entry, LatencySpec
from mobileone_core.benchmark.subjects import latency as measure
from mobileone_core.benchmark.subjects.latency import measure_latency
from mobileone_core.errors import InputError
from mobileone_core.latency.cell import Chain, LatencyCell, NamedNetwork, Runtime
from mobileone_core.model.cost import model_cost

PROTOCOL = Protocol(rounds=6, burst=3)
TINY = LatencyCell(NamedNetwork("mobileone_tiny"), image_size=32, num_classes=10)


def arm(label, cell, reference="tiny"):
    return Entry(label, {"model": label}, cell, reference)


def spec_of(*arms, protocol=PROTOCOL):
    return LatencySpec((arm("tiny", TINY), *arms), protocol)


@pytest.fixture(scope="module")
def measured():
    told = []
    spec = spec_of(
        arm("train", replace(TINY, network=NamedNetwork("mobileone_tiny", form="train"))),
        arm("eager", replace(TINY, runtime=Runtime("torch"))),
        arm("chain", replace(TINY, network=Chain(depth=2, width=8))),
        arm("missing", replace(TINY, network=NamedNetwork("mobilenext_x1_0"))),
    )
    return spec, {row.label: row for row in measure_latency(spec, told.append)}, told


def test_every_arm_has_a_row_and_is_told_of(measured):
    spec, rows, told = measured
    assert list(rows) == [item.label for item in spec.entries]
    assert told == [0] * len(spec.entries) + list(range(1, PROTOCOL.rounds + 1))
    assert {row.form for row in rows.values()} == {""}


def test_all_samples_are_kept_and_give_every_figure(measured):
    spec, rows, _ = measured
    for row in rows.values():
        counts = {name: row.metrics[name] for name in ("params", "macs", "host/load") if name in row.metrics}
        assert row.metrics == counts | latency_figures(spec.protocol, row.samples, rows["tiny"].samples)
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


def test_a_network_that_no_library_has_is_a_reason_not_a_time(measured):
    row = measured[1]["missing"]
    assert row.unmeasured == "MobileNeXt-x1.0: no kept library has it"
    assert row.samples == {}
    assert set(row.metrics) == {"host/load"}


def test_tags_say_how_it_ran(measured):
    _, rows, _ = measured
    tags = rows["tiny"].tags
    assert (tags["runtime"], tags["provider"], tags["threads"]) == ("onnxruntime", "CPUExecutionProvider", "1")
    assert tags["runtime_version"].startswith("onnxruntime ")
    assert rows["eager"].tags["runtime_version"] == f"torch {torch.__version__}"


def test_a_wrong_output_is_no_latency(monkeypatch):
    monkeypatch.setitem(measure.TOLERANCES, "float32", -1.0)
    (row,) = measure_latency(spec_of(), lambda _: None)
    assert row.samples == {}
    assert "wrong output" in row.unmeasured
    assert row.metrics["params"] == model_cost("tiny", 32, 10).deployed.params


def test_what_a_runtime_answers_is_one_line(monkeypatch):
    def fails(subject):
        raise RuntimeError("\nno kernel for this\nand a long story")

    monkeypatch.setattr(measure.runtimes, "prepare", fails)
    (row,) = measure_latency(spec_of(), lambda _: None)
    assert row.unmeasured == "onnxruntime: RuntimeError: no kernel for this"


def test_an_unknown_network_ends_the_measurement():
    with pytest.raises(InputError, match="model: 'resnet' is not allowed; one of mobileone_s0"):
        measure_latency(spec_of(arm("x", replace(TINY, network=NamedNetwork("resnet")))), lambda _: None)


def test_threads_collection_and_random_state_are_as_before():
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    runtime = Runtime("torch", threads=threads + 1)
    spec = LatencySpec((arm("tiny", replace(TINY, runtime=runtime)),), PROTOCOL)
    seen = []

    def tell(number):
        if number:
            seen.append((torch.get_num_threads(), gc.isenabled()))

    measure_latency(spec, tell)
    assert set(seen) == {(threads + 1, False)}
    assert (torch.get_num_threads(), gc.isenabled()) == (threads, True)
    assert torch.equal(torch.get_rng_state(), state)


def test_modelbench_reloads_every_round_and_reports_low_and_average(monkeypatch):
    reloads = []
    monkeypatch.setattr(measure.Reopened, "reload", lambda self: reloads.append(self.session))
    protocol = Protocol(rounds=6, burst=5, warmup=0, trim=2, reload=True)
    (row,) = measure_latency(spec_of(protocol=protocol), lambda _: None)
    assert len(reloads) == 2 * protocol.rounds  # the control too
    middle = np.sort(row.samples["latency"], axis=1)[:, 2]
    assert row.metrics["latency/low_ms"] == middle.min()
    assert row.metrics["latency/average_ms"] == pytest.approx(middle.mean())
