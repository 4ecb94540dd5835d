"""States of claims on times, correlations and evaluations, from made-up entries. Intervals: ratio - 0.01 to + 0.02."""

from dataclasses import replace

import pytest

from mobileone_core.reporting.ledger.claims import claim_of
from mobileone_core.reporting.ledger.evidence import SavedResult, evidence
from mobileone_core.reporting.ledger.ledger import verdict_text, verdicts
from mobileone_core.reporting.measured import table9
from mobileone_core.reporting.measured.correlation import _measured
from mobileone_core.reporting.measured.result import analyse_measured
from mobileone_core.study.rows import EvaluationRow

BASE = {"id": "claim", "text": "It is so.", "source": "table 2", "setting": "iPhone 12", "test": "time"}


def claim_on(*activations, **fields):
    levels = [{"activation": name} for name in activations]
    return claim_of({**BASE, "study": "activation_latency", "expect": "slower", "levels": levels, **fields})


@pytest.fixture
def saved(activations, timed):
    return SavedResult("activation_latency", analyse_measured(activations, timed))


def first(claim, *results):
    """The verdict in the first runtime."""
    rows = verdicts(results, [claim])
    assert [row.data for row in rows] == ["onnxruntime on cpu", "torch on cpu"]
    return rows[0]


@pytest.mark.parametrize(
    ("activation", "expect", "state", "text"),
    [
        ("gelu", "slower", "supported", "1.06 [1.05, 1.08] times"),
        ("gelu", "faster", "contradicted", "1.06 [1.05, 1.08] times"),
        ("hardswish", "slower", "not resolved", "1.00 [0.991, 1.02] times; interval ± 1.5 %"),
    ],
)
def test_ratio_to_the_reference(saved, activation, expect, state, text):
    row = first(claim_on(activation, expect=expect), saved)
    assert (row.state, row.evidence[0].text, row.evidence[0].machine) == (state, text, "Any CPU")
    assert verdict_text(row, "README.md").endswith("(Any CPU)")


def test_least_clear_level_is_shown(saved):
    row = first(claim_on("silu", "gelu", "se_relu"), saved)
    assert (row.state, row.evidence[0].text) == ("supported", "gelu 1.06 [1.05, 1.08] times")
    assert first(claim_on("silu", "hardswish"), saved).state == "not resolved"


def test_size_of_a_ratio(saved):
    assert first(claim_on("dynamic_relu_a_rank5", expect="above", than=5.0), saved).state == "supported"
    assert first(claim_on("dynamic_relu_a_rank5", expect="above", than=10.0), saved).state == "contradicted"
    assert first(claim_on("hardswish", expect="above", than=10.0), saved).state == "contradicted"
    assert first(claim_on("dynamic_relu_a_rank5", expect="above", than=5.6), saved).state == "not resolved"


def test_ratio_of_two_entries_combines_their_intervals(saved):
    """SiLU over GELU: 1.20 / 1.06, from 1.19 / 1.08 to 1.22 / 1.05."""
    row = first(claim_on("silu", base={"activation": "gelu"}), saved)
    assert (row.state, row.evidence[0].text) == ("supported", "1.13 [1.10, 1.16] times")
    row = first(claim_on("relu", base={"activation": "silu"}, expect="faster"), saved)
    assert (row.state, row.evidence[0].text) == ("supported", "0.833 [0.820, 0.840] times")


def test_failed_control_judges_nothing(activations, timed, change):
    label = activations.spec.entries[0].label
    metrics = {**timed.comparison[0].metrics, "control/latency_ratio": 1.05}
    record = change(timed, label, activations, metrics=metrics)
    row = first(claim_on("silu"), SavedResult("a", analyse_measured(activations, record)))
    assert row.state == "not resolved"
    assert row.evidence[0].text.endswith("; not judged: control")


def test_missing_entry_is_no_evidence(activations, timed, change):
    label = next(entry.label for entry in activations.spec.entries if entry.factors["activation"] == "silu")
    result = SavedResult("a", analyse_measured(activations, change(timed, label, activations)))
    assert [item.data for item in evidence(claim_on("silu"), [result])] == ["torch on cpu"]


def test_machines_that_disagree_are_unstable(activations, timed, saved):
    rows = [
        replace(
            row,
            environment={**row.environment, "processor": "Another CPU"},
            metrics={**row.metrics, **{f"latency/ratio{end}": 0.9 for end in ("", "_low", "_high")}},
        )
        for row in timed.comparison
    ]
    other = SavedResult("again", analyse_measured(activations, replace(timed, comparison=rows)))
    row = first(claim_on("silu"), saved, other)
    assert row.state == "unstable"
    assert "contradicted ([onnxruntime on cpu](again/README.md), Another CPU)" in verdict_text(row, "README.md")


@pytest.mark.parametrize(("metric", "state"), [("macs", "contradicted"), ("params", "not resolved")])
def test_rank_correlation(saved, metric, state, monkeypatch):
    """Seven of the paper's networks: latency rises with multiply-adds but for one pair, not with parameters."""
    times, macs, params = range(1, 8), (1, 2, 3, 4, 5, 7, 6), (5, 1, 7, 3, 2, 6, 4)
    names = iter(item for item in saved.result.entries if item.runtime == "onnxruntime")
    rows = {}
    for item, time, work, size in zip(names, times, macs, params, strict=False):
        metrics = {**item.row.metrics, "latency/median_ms": time, "macs": work, "params": size}
        rows[item.row.run_id] = replace(item.row, metrics=metrics)
    entries = [replace(item, row=rows[item.row.run_id]) for item in saved.result.entries if item.row.run_id in rows]
    result = SavedResult("activation_latency", replace(saved.result, entries=tuple(entries)))
    points = _measured(result.result, "onnxruntime", "macs")
    monkeypatch.setattr(table9, "figure2_models", lambda: [{"model": point.name} for point in points])
    claim = claim_on(test="correlation", metric=metric, expect="below", than=0.5)
    found = [row for row in verdicts([result], [claim]) if row.data == "onnxruntime on cpu"]
    assert [row.state for row in found] == [state]


@pytest.mark.parametrize(
    ("top1", "variant", "state"),
    [
        (0.759, "s1", "supported"),
        (0.70, "s1", "contradicted"),
        (0.7245, "s1", "not resolved"),
        (0.8, "s0", "not tested here"),
    ],
)
def test_evaluated_weights_against_a_printed_number(saved, top1, variant, state):
    """RepVGG-A0 has 72.4 %; the standard error over 50,000 images is 0.2 points."""
    row = EvaluationRow(variant, "imagenet", "test", "train", "", "", "224", "", "0123456789", top1, 50_000.0)
    claim = claim_on(
        test="evaluation",
        published=["table4_overparam_methods:MobileOne-S1/top1 against RepVGG-A0/top1"],
        expect="above",
    )
    claim = replace(claim, levels=({"variant": "s1"},))
    result = SavedResult("backbone_comparison", replace(saved.result, evaluations=(row,)))
    result = replace(result, report="activation_latency")
    assert [item.state for item in verdicts([result], [claim])] == [state]
    elsewhere = replace(claim, data="imagenet-r")  # of robustness sets the whole name counts, not a part
    assert [item.state for item in verdicts([result], [elsewhere])] == ["not tested here"]
    rendition = replace(result, result=replace(saved.result, evaluations=(replace(row, data="imagenet-r"),)))
    assert [item.state for item in verdicts([rendition], [elsewhere])] == [state]
    part = replace(result, result=replace(saved.result, evaluations=(replace(row, data="part of imagenet-r"),)))
    assert [item.state for item in verdicts([part], [elsewhere])] == ["not tested here"]
