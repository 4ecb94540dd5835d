"""A comparison's text and key: a round trip, and one key for one measurement."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobileone_core.benchmark.protocol import Protocol
from mobileone_core.benchmark.spec import Entry, FormsSpec, read_spec
from mobileone_core.errors import InputError
from mobileone_core.model.spec import ModelSpec
from mobileone_core.study.kinds import read_plan
from mobileone_core.training.cell import CellSpec

ENTRIES = (
    Entry("off", {"reparam": False, "se": (0, 1)}, CellSpec(ModelSpec.preset("tiny", reparam=False)), "off"),
    Entry("4", {"k": 4, "lr": 0.5, "act": "relu"}, CellSpec(ModelSpec.preset("tiny"), seed=3), "off"),
)
SPEC = FormsSpec(ENTRIES)

plain = st.text() | st.integers() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False)
entries = st.builds(
    Entry,
    label=st.text(),
    factors=st.dictionaries(st.text(), plain | st.lists(st.integers()).map(tuple)),
    cell=st.builds(CellSpec, seed=st.integers(0, 9)),
    reference=st.just(""),
)


def referring(some):
    """The entries, all referring to the last."""
    return tuple(replace(entry, reference=some[-1].label) for entry in some)


comparisons = st.lists(entries, min_size=1, max_size=3, unique_by=lambda entry: entry.label).map(
    lambda some: FormsSpec(referring(some), Protocol(rounds=6 + len(some)))
)


@given(comparisons)
def test_text_round_trip(spec):
    again = read_spec(spec.to_json())
    assert again == spec
    assert again.key == spec.key
    assert len(spec.key) == 12


def test_pinned_text():
    """A key names records that exist. The protocol's defaults are left out: a new one moves no key."""
    spec = FormsSpec((Entry("1", {"k": 1}, CellSpec(), "1"),), Protocol(rounds=30))
    assert spec.to_json() == (
        '{"arms":[{"factors":{"k":1},"label":"1","spec":{"schema":1}}],"baseline":"1","kind":"forms",'
        '"protocol":{"rounds":30},"schema":1}'
    )
    assert spec.key == "3b235d377c17"


@pytest.mark.parametrize(
    "other",
    [
        FormsSpec(tuple(replace(entry, reference="4") for entry in ENTRIES)),
        replace(SPEC, protocol=Protocol(rounds=21)),
        replace(SPEC, entries=ENTRIES[:1]),
        replace(SPEC, entries=(ENTRIES[0], replace(ENTRIES[1], cell=replace(ENTRIES[1].cell, seed=4)))),
        replace(SPEC, entries=(ENTRIES[0], replace(ENTRIES[1], factors={"k": 2}))),
    ],
)
def test_what_differs_has_another_key(other):
    assert other.key != SPEC.key


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ((), "entries: .* one or more labels"),
        ((ENTRIES[0], ENTRIES[0]), "entries: .* each once"),
        ((ENTRIES[0], replace(ENTRIES[1], reference="3")), "reference: '3' is not allowed; one of off"),
        ((ENTRIES[0], replace(ENTRIES[1], reference="4")), r"reference: \['4', 'off'\] is not allowed; one for all"),
    ],
)
def test_refused_values(entries, message):
    with pytest.raises(InputError, match=message):
        FormsSpec(entries)


@pytest.mark.parametrize(
    "changes", [{"schema": 2}, {"kind": "speed"}, {"extra": 1}, {"protocol": {"pauses": 1}}, {"arms": [{"label": "x"}]}]
)
def test_another_versions_text_is_refused(changes):
    with pytest.raises(InputError, match=r"version|kind"):
        read_spec(json.dumps(json.loads(SPEC.to_json()) | changes))


REPORTS = Path(__file__).parents[2] / "reports"
KEYS = {
    "activation_latency": ["5a1c2f6b9bd0"],
    "backbone_comparison": ["d18429edbf9d"],
    "block_latency": ["be6637eea846"],
    "pareto_search": ["0f50ec3cede6", "e3b3f0bd828b", "c758ed3ca8b7", "9e5eb00b2c6b", "25aadacd37eb"],
    "reparam_effect": ["91c578094743"],
    "reparam_latency": ["f2a82bd62734"],
    "training_cost": ["121940c09387"],
}


@pytest.mark.parametrize("study", KEYS)
def test_published_comparisons_keep_their_keys(study):
    """Records carry these keys: the plan of a report must come to the same ones."""
    plan = read_plan((REPORTS / study / "plan.json").read_text())
    specs = [comparison.spec for comparison in plan.comparisons]
    assert [spec.key for spec in specs] == KEYS[study]
    assert [read_spec(spec.to_json()) for spec in specs] == specs


def test_a_benchmark_of_an_unknown_kind_is_refused():
    with pytest.raises(InputError, match="kind: 'speed' is not allowed; this version measures latency, step, forms"):
        read_spec('{"kind":"speed"}')
