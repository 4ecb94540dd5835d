"""A comparison's text and key: a round trip, and one key for one measurement."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobileone_core.errors import InputError
from mobileone_core.latency.protocol import Protocol
from mobileone_core.model.spec import ModelSpec
from mobileone_core.training.cell import CellSpec
from mobileone_core.training.comparison import ComparisonArm, ComparisonSpec

ARMS = (
    ComparisonArm("off", {"reparam": False, "se": (0, 1)}, CellSpec(ModelSpec.preset("tiny", reparam=False))),
    ComparisonArm("4", {"k": 4, "lr": 0.5, "act": "relu"}, CellSpec(ModelSpec.preset("tiny"), seed=3)),
)
SPEC = ComparisonSpec("forms", ARMS, "off")

plain = st.text() | st.integers() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False)
arms = st.builds(
    ComparisonArm,
    label=st.text(),
    factors=st.dictionaries(st.text(), plain | st.lists(st.integers()).map(tuple)),
    spec=st.builds(CellSpec, seed=st.integers(0, 9)),
)
comparisons = st.lists(arms, min_size=1, max_size=3, unique_by=lambda arm: arm.label).map(
    lambda some: ComparisonSpec("forms", tuple(some), some[-1].label, Protocol(rounds=6 + len(some)))
)


@given(comparisons)
def test_text_round_trip(spec):
    again = ComparisonSpec.from_json(spec.to_json())
    assert again == spec
    assert again.key == spec.key
    assert len(spec.key) == 12


def test_pinned_text():
    """A key names records that exist. The protocol's defaults are left out: a new one moves no key."""
    arm = ComparisonArm("1", {"k": 1}, CellSpec())
    spec = ComparisonSpec(arms=(arm,), baseline="1", protocol=Protocol(rounds=30))
    assert spec.to_json() == (
        '{"arms":[{"factors":{"k":1},"label":"1","spec":{"schema":1}}],"baseline":"1","kind":"forms",'
        '"protocol":{"rounds":30},"schema":1}'
    )
    assert spec.key == "3b235d377c17"


@pytest.mark.parametrize(
    "other",
    [
        replace(SPEC, baseline="4"),
        replace(SPEC, protocol=Protocol(rounds=21)),
        replace(SPEC, arms=ARMS[:1]),
        replace(SPEC, arms=(ARMS[0], replace(ARMS[1], spec=replace(ARMS[1].spec, seed=4)))),
        replace(SPEC, arms=(ARMS[0], replace(ARMS[1], factors={"k": 2}))),
    ],
)
def test_what_differs_has_another_key(other):
    assert other.key != SPEC.key


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "speed"}, "kind: 'speed' is not allowed; one of forms"),
        ({"arms": ()}, "arms: .* one or more labels"),
        ({"arms": (ARMS[0], ARMS[0])}, "arms: .* each once"),
        ({"baseline": "3"}, "baseline: '3' is not allowed; one of off, 4"),
    ],
)
def test_refused_values(changes, message):
    with pytest.raises(InputError, match=message):
        replace(SPEC, **changes)


@pytest.mark.parametrize(
    "changes", [{"schema": 2}, {"extra": 1}, {"protocol": {"pauses": 1}}, {"arms": [{"label": "x"}]}]
)
def test_another_versions_text_is_refused(changes):
    with pytest.raises(InputError, match="version"):
        ComparisonSpec.from_json(json.dumps(json.loads(SPEC.to_json()) | changes))


def test_planning_one_imports_no_torch():
    code = "import sys, mobileone_core.training.comparison; print('torch' in sys.modules, 'scipy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
