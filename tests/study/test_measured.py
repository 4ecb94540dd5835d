"""Studies that are measured: what their plans hold, and their way through queue and record."""

import json
import sqlite3
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from study_fakes import FAST, Lines, latency_study, step_study
from study_proof import give_databases

from mobileone_core.benchmark.protocol import Protocol
from mobileone_core.benchmark.spec import LatencySpec, read_spec
from mobileone_core.errors import InputError
from mobileone_core.latency.cell import Chain, LatencyCell, NamedNetwork, Runtime
from mobileone_core.model.spec import ModelSpec
from mobileone_core.study.declaration import Factor
from mobileone_core.study.factor import level_label
from mobileone_core.study.grid import GridPlan
from mobileone_core.study.kinds import read_plan
from mobileone_core.study.measured import MeasuredPlan
from mobileone_core.study.record.access import recorded_plans
from mobileone_core.study.record.reading import read_record
from mobileone_core.study.run.progress import plan_lines
from mobileone_core.study.run.runner import run_study
from mobileone_core.study.state import cell_states, is_settled
from mobileone_core.study.workspace import Setup

STUDY = latency_study()


def run(plan, workspace):
    return run_study(plan, Setup(workspace, engine=FAST), Lines())


def test_a_plan_has_every_arm_once_and_its_reference():
    plan = MeasuredPlan(STUDY, default=True)
    assert [(entry.label, entry.reference) for entry in plan.spec.entries] == [
        ("activation = relu, runtime = onnxruntime", "activation = relu, runtime = onnxruntime"),
        ("activation = relu, runtime = torch", "activation = relu, runtime = torch"),
        ("activation = gelu, runtime = onnxruntime", "activation = relu, runtime = onnxruntime"),
        ("activation = gelu, runtime = torch", "activation = relu, runtime = torch"),
    ]
    assert [entry.cell.network.activation for entry in plan.spec.entries] == ["relu", "relu", "gelu", "gelu"]
    assert [entry.cell.runtime.name for entry in plan.spec.entries] == ["onnxruntime", "torch"] * 2
    assert plan.queue == plan.study.name
    assert plan.queued == (plan.comparison,)


@given(
    st.integers(6, 40),
    st.sampled_from([NamedNetwork("mobileone_s1", "train", 4), Chain(width=8), ModelSpec.preset("tiny", k=2)]),
    st.integers(8, 64),
)
def test_plans_and_their_measurement_survive_json(rounds, network, size):
    base = LatencyCell(network, Runtime("torch", 2), size)
    factors = (Factor("runtime", "runtime.name", levels=("torch", "openvino"), baseline="torch"),)
    plan = MeasuredPlan(replace(STUDY, base=base, factors=factors, against=(), protocol=Protocol(rounds=rounds)))
    again = read_plan(plan.to_json())
    assert isinstance(again, MeasuredPlan)
    assert again == plan
    assert again.comparison.key == plan.comparison.key
    assert read_spec(plan.spec.to_json()) == plan.spec


def test_what_is_measured_moves_the_key_and_the_queue():
    plan = MeasuredPlan(STUDY, default=True)
    faster = MeasuredPlan(replace(STUDY, protocol=Protocol(rounds=6)))
    wider = MeasuredPlan(replace(STUDY, base=LatencyCell(Chain(width=40))))
    assert len({item.comparison.key for item in (plan, faster, wider)}) == 3
    assert len({item.queue for item in (plan, faster, wider)}) == 3


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"against": ("k",)}, "against"),
        ({"view": "pie"}, "view"),
        ({"name": "evaluate"}, "name"),
    ],
)
def test_a_declaration_refuses_what_it_cannot_mean(changes, words):
    with pytest.raises(InputError, match=words):
        replace(STUDY, **changes)


def test_a_baseline_that_is_compared_must_be_a_level_and_another_factors_need_not():
    activation, runtime = STUDY.factors
    without = replace(activation, levels=("gelu",))
    with pytest.raises(InputError, match="baseline level 'relu'"):
        MeasuredPlan(replace(STUDY, factors=(without, runtime)))
    plan = MeasuredPlan(replace(STUDY, factors=(activation, replace(runtime, levels=("openvino",)))))
    assert {entry.reference for entry in plan.spec.entries} == {"activation = relu, runtime = openvino"}


@pytest.mark.parametrize("field", ["network.k", "network.form"])
def test_a_factor_of_another_networks_field_is_refused(field):
    factor = Factor("strange", field, levels=(1, 2), baseline=1)
    with pytest.raises(InputError, match="field: 'network"):
        MeasuredPlan(replace(STUDY, factors=(factor,), against=()))


def test_a_latency_has_no_fields_of_a_step():
    factor = Factor("k", "step.k", levels=(1, 4), baseline=1)
    with pytest.raises(InputError, match=r"k: field: 'step\.k' is not allowed; one of network\."):
        MeasuredPlan(replace(STUDY, factors=(factor,), against=()))


def test_levels_that_come_to_the_same_cell_are_refused():
    factor = Factor("width", settings={"usual": {}, "32": {"network.width": Chain().width}}, baseline="usual")
    with pytest.raises(InputError, match="same network in the same runtime"):
        MeasuredPlan(replace(STUDY, factors=(factor,), against=()))


def test_another_versions_measurement_is_refused():
    content = json.loads(MeasuredPlan(STUDY).spec.to_json())
    for changes, words in (({"schema": 99}, "schema"), ({"kind": "power"}, "kind"), ({"arms": [{}]}, "version")):
        with pytest.raises(InputError, match=words):
            read_spec(json.dumps(content | changes))
    with pytest.raises(InputError, match="reference"):
        LatencySpec((replace(MeasuredPlan(STUDY).spec.entries[2]),))


def test_a_run_is_recorded_whole_and_a_second_one_does_nothing(databases, workspace):
    plan = MeasuredPlan(STUDY, default=True)
    give_databases(databases, workspace)
    outcome = run(plan, workspace)
    assert outcome.is_complete, outcome.states
    assert is_settled(workspace, plan, cell_states(workspace, plan))
    record = read_record(workspace.tracking, plan)
    assert not record.rows
    assert not record.problems
    assert [row.factors for row in record.comparison] == [dict(entry.factors) for entry in plan.spec.entries]
    assert [row.metrics["latency/median_ms"] for row in record.comparison[:3]] == [1.0, 2.0, 3.0]
    assert record.comparison[3].environment["unmeasured"] == "no such operator"
    assert "latency/median_ms" not in record.comparison[3].metrics
    assert recorded_plans(workspace.tracking, STUDY.name) == [plan]
    before = {path: path.stat().st_mtime_ns for path in workspace.runs.rglob("*")}
    assert run(plan, workspace).states == outcome.states
    assert {path: path.stat().st_mtime_ns for path in workspace.runs.rglob("*")} == before


@pytest.mark.slow
def test_factors_come_back_in_the_order_of_their_declaration(databases, workspace):
    plan = MeasuredPlan(replace(STUDY, factors=STUDY.factors[::-1]), default=True)
    give_databases(databases, workspace)
    assert run(plan, workspace).is_complete
    rows = read_record(workspace.tracking, plan).comparison
    assert [level_label(row.factors) for row in rows] == [entry.label for entry in plan.spec.entries]


@pytest.mark.slow
def test_every_sample_is_kept(databases, workspace):
    plan = MeasuredPlan(STUDY, default=True)
    give_databases(databases, workspace)
    assert run(plan, workspace).is_complete
    kept = [json.loads(path.read_text()) for path in workspace.artifacts.rglob("samples.json")]
    assert sorted(len(item.get("latency", [])) for item in kept) == [0, 20, 20, 20]


def test_steps_are_measured_where_they_can_be_and_gaps_are_told(databases, workspace):
    plan = MeasuredPlan(step_study(), default=True)
    gap = {"path = timm, k = 1": "timm has mobileone_s0 with k = 4 alone"}
    assert plan.study.gaps == gap
    assert [entry.label for entry in plan.spec.entries] == [
        *(f"path = {path}, k = {k}" for path in ("branches", "folded") for k in (1, 4)),
        "path = timm, k = 4",
    ]
    assert {entry.reference for entry in plan.spec.entries} == {"path = branches, k = 1"}
    lines = plan_lines(plan, cell_states(workspace, plan))
    assert "20 rounds of 4 calls, 1 threads per call, s0, 64 px, batch 2" in lines
    assert "  not measured: path = timm, k = 1: timm has mobileone_s0 with k = 4 alone" in lines
    give_databases(databases, workspace)
    outcome = run(plan, workspace)
    assert outcome.is_complete, outcome.states
    record = read_record(workspace.tracking, plan)
    assert [row.factors for row in record.comparison] == list(plan.study.settings)
    assert [row.metrics["time/step_ms"] for row in record.comparison] == [1.0, 4.0, 1.0, 4.0, 4.0]
    assert recorded_plans(workspace.tracking, plan.study.name) == [plan]


def test_a_plan_of_steps_survives_json():
    plan = MeasuredPlan(step_study())
    again = read_plan(plan.to_json())
    assert again == plan
    assert again.comparison.key == plan.comparison.key
    assert read_spec(plan.spec.to_json()) == plan.spec


@pytest.mark.parametrize(("study", "view"), [(step_study(), "levels"), (STUDY, "training")])
def test_a_view_of_something_else_is_refused(study, view):
    with pytest.raises(InputError, match=f"view: '{view}' is not allowed"):
        replace(study, view=view)


def test_a_factor_of_a_network_is_none_of_a_step():
    with pytest.raises(InputError, match=r"form: field: 'network.form'"):
        MeasuredPlan(replace(step_study(), factors=(Factor("form", "network.form", ("train",), "train"),)))


def test_a_trained_plan_is_read_as_one():
    from study_fakes import small_plan

    plan = small_plan(levels=(1, 2), seeds=1)
    assert read_plan(plan.to_json()) == plan
    assert isinstance(read_plan(plan.to_json()), GridPlan)


def test_a_plan_is_shown_without_a_trace(workspace):
    plan = MeasuredPlan(STUDY, default=True)
    lines = plan_lines(plan, cell_states(workspace, plan))
    assert "4 networks side by side; 1 missing" in lines[0]
    assert not workspace.runs.exists()
    with pytest.raises(sqlite3.OperationalError):
        sqlite3.connect(f"file:{workspace.runs / 'optuna.db'}?mode=ro", uri=True)
