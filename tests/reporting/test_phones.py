"""Claims on phones from made-up latencies in devices.csv, next to the committed report of backbones."""

import shutil
from pathlib import Path

import pytest
from scipy.stats import spearmanr

from mobileone_core.reporting.devices import devices_text
from mobileone_core.reporting.ledger.claims import read_claims
from mobileone_core.reporting.ledger.evidence import SavedResult
from mobileone_core.reporting.ledger.ledger import verdict_text, verdicts
from mobileone_core.reporting.measured import table9
from mobileone_core.reporting.measured.kind import MeasuredKind
from mobileone_core.reporting.report import PAGE, read_report
from mobileone_core.study.rows import DeviceRow

REPORT = Path(__file__).parents[2] / "reports" / "backbone_comparison"
CLAIMS = {claim.id: claim for claim in read_claims()}


def row(model, ms, **fields):
    usual = {"device": "Testphone 1", "os": "iOS 99.0", "compute_units": "all", "protocol": "other:test", "n": 10,
             "source": "imported", "date": "2026-01-01", "model_hash": "a" * 64}  # fmt: skip
    statistics = {"min": ms, "median": 2 * ms}
    return DeviceRow(**{**usual, "model": model, "run_id": f"{model}-{ms}", "statistics": statistics, **fields})


@pytest.fixture
def state(tmp_path):
    """The verdicts on a claim, read from a copy of the report with these rows in its devices.csv."""

    def make(name, *rows):
        home = shutil.copytree(REPORT, tmp_path / "backbone_comparison")
        (home / "devices.csv").write_text(devices_text(rows))
        plan, record = read_report(home)
        result = MeasuredKind().analyse(plan, record)
        return verdicts([SavedResult("backbone_comparison", result)], [CLAIMS[name]])

    return make


@pytest.mark.parametrize(
    ("small", "verdict", "text"),
    [(1.25, "supported", "0.800"), (0.8, "contradicted", "1.25"), (1.02, "not resolved", "0.980")],
)
def test_ratio_of_minima_decides(state, small, verdict, text):
    (found,) = state("s0-phone", row("mobileone_s0", 1.0), row("mobilenet_v3_small", small))
    assert (found.state, found.data) == (verdict, "Testphone 1, iOS 99.0, all units, float16")
    assert found.evidence[0].text == f"{text} times, min"


def test_several_runs_give_a_range(state):
    """1 and 1.1 over 1.25 and 1.05: from 0.8 to 1.048, which holds 1."""
    runs = [row("mobileone_s0", 1.0), row("mobileone_s0", 1.1), row("mobilenet_v3_small", 1.25)]
    (found,) = state("s0-phone", *runs, row("mobilenet_v3_small", 1.05))
    assert (found.state, found.evidence[0].text) == ("not resolved", "0.916 [0.800, 1.05] times, min")


def test_verdict_names_report_setting_and_protocol(state):
    (found,) = state("s0-phone", row("mobileone_s0", 1.0), row("mobilenet_v3_small", 1.25))
    link = "[Testphone 1, iOS 99.0, all units, float16](backbone_comparison/README.md)"
    assert verdict_text(found, PAGE) == f"**supported**, {link}: 0.800 times, min (protocol other:test)"


@pytest.mark.parametrize(
    "fields",
    [
        *({"form": "train"}, {"os": "macOS 15"}, {"protocol": "modelbench"}, {"device": "Testphone 2"}),
        *({"precision": "float32"}, {"statistics": {"median": 1.25}}, {"compute_units": "cpu_only"}),
    ],
)
def test_unlike_measurements_are_not_compared(state, fields):
    (found,) = state("s0-phone", row("mobileone_s0", 1.0), row("mobilenet_v3_small", 1.25, **fields))
    assert (found.state, found.evidence) == ("not tested here", ())


def test_each_setting_is_a_verdict(state):
    rows = [row("mobileone_s0", 1.0), row("mobilenet_v3_small", 1.25)]
    slow = [
        row("mobileone_s0", 2.0, compute_units="cpu_only"),
        row("mobilenet_v3_small", 1.0, compute_units="cpu_only"),
    ]
    found = state("s0-phone", *rows, *slow)
    assert [item.state for item in found] == ["contradicted", "supported"]
    assert "CPU" in found[0].data


def test_activations_of_the_chain_by_their_titles(state):
    """All six are needed; on a phone the claim has a verdict of its own next to those of the CPU's runtimes."""
    slower = ("gelu", "se_relu", "silu", "dynamic_shift_max", "dynamic_relu_a", "dynamic_relu_b")
    rows = [row("relu", 1.0), *(row(name, 1.1 + 10 * ("dynamic" in name)) for name in slower)]
    (found,) = state("relu-cheapest", *rows)
    assert (found.state, found.evidence[0].text) == ("supported", "gelu 1.10 times, min")


def test_skip_connections_of_the_chain_by_their_titles(state):
    (found,) = state("skip-latency", row("baseline", 1.0), row("skip", 0.9))
    assert (found.state, found.evidence[0].text) == ("contradicted", "0.900 times, min")


def networks():
    """Networks of table 1 with their multiply-adds in the report."""
    result = MeasuredKind().analyse(*read_report(REPORT))
    names = {str(line["model"]) for line in table9.figure2_models()}
    items = [item for item in result.entries if table9.paper_name(item.network) in names and item.metric("macs")]
    return {item.network: (item.metric("macs"), item.metric("latency/median_ms")) for item in items}


def test_correlation_is_over_the_networks_of_table_1(state):
    costs = networks()
    times = {name: 1 + (7 * index) % 20 for index, name in enumerate(costs)}
    others = [row("repvgg_b1", 99.0), row("mobileone_s9", 99.0)]
    (found,) = state("flops-phone", *(row(name, ms) for name, ms in times.items()), *others)
    rho = spearmanr(list(times.values()), [macs for macs, _ in costs.values()]).statistic
    assert found.evidence[0].text.startswith(f"{rho:.2f} [")
    assert found.evidence[0].text.endswith(f"over {len(costs)} of 21 networks")


def test_few_networks_have_no_correlation(state):
    (found,) = state("flops-phone", row("mobileone_s0", 1.0), row("mobileone_s1", 2.0))
    assert found.state == "not tested here"
