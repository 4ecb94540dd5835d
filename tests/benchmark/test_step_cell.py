"""Valid measured training steps, their text, and the key of a comparison of several."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobileone_core.benchmark.protocol import PROTOCOLS, Protocol
from mobileone_core.benchmark.spec import Entry, StepCell, StepSpec, read_spec
from mobileone_core.errors import InputError
from mobileone_core.model.spec import ModelSpec

cells = st.builds(
    StepCell,
    variant=st.sampled_from(["s0", "s4", "tiny"]),
    k=st.integers(1, 16),
    path=st.sampled_from(["branches", "folded", "auto", "timm"]),
    batch_size=st.integers(2, 64),
    image_size=st.integers(1, 300),
    threads=st.integers(1, 8),
    device=st.sampled_from(["cpu", "cuda"]),
    precision=st.sampled_from(["32", "bf16-mixed"]),
    compile=st.booleans(),
)


def spec_of(*cells, **protocol):
    arms = (Entry(str(index), {"k": cell.k, "path": cell.path}, cell, "0") for index, cell in enumerate(cells))
    return StepSpec(tuple(arms), Protocol(**protocol))


@given(st.lists(cells, min_size=1, max_size=3))
def test_text_round_trip(some):
    spec = spec_of(*some, rounds=6 + len(some))
    again = read_spec(spec.to_json())
    assert again == spec
    assert again.key == spec.key
    assert all(StepCell.from_dict(cell.to_dict()) == cell for cell in some)


def test_pinned_text():
    """A key names records that exist. Defaults are left out: a new field with a default moves no key."""
    spec = spec_of(StepCell(), StepCell(k=4, path="timm", threads=1), rounds=12)
    assert spec.to_json() == (
        '{"arms":[{"cell":{"kind":"step"},"factors":{"k":1,"path":"branches"},"label":"0","reference":"0"},'
        '{"cell":{"k":4,"kind":"step","path":"timm","threads":1},"factors":{"k":4,"path":"timm"},"label":"1",'
        '"reference":"0"}],"kind":"step","protocol":{"rounds":12},"schema":1}'
    )
    assert spec.key == "ebc374f321d2"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"variant": "s9"}, "variant: 's9' is not allowed; one of s0, "),
        ({"k": 17}, "k: 17 is not allowed; an integer from 1 to 16"),
        ({"path": "fused"}, "path: 'fused' is not allowed; one of branches, folded, auto, timm"),
        ({"device": "tpu"}, "device: 'tpu' is not allowed; one of cpu, cuda"),
        ({"precision": "64"}, "precision: '64' is not allowed; one of 32, "),
        ({"batch_size": 0}, "batch_size: 0 is not allowed; an integer of 1 or more"),
        ({"threads": True}, "threads: True is not allowed"),
        ({"compile": 1}, "compile: 1 is not allowed; True or False"),
        ({"batch_size": 1, "image_size": 32}, "batch_size: 1 is not allowed; 2 or more where 32 px leave one pixel"),
    ],
)
def test_refused_values(changes, words):
    with pytest.raises(InputError, match=words):
        replace(StepCell(), **changes)
    with pytest.raises(InputError, match=words):
        StepCell().changed({f"step.{name}": value for name, value in changes.items()})


def test_one_image_is_enough_where_the_last_map_has_two_pixels_or_more():
    assert StepCell(batch_size=1, image_size=33).model == ModelSpec.preset("s0", k=1)


def test_a_field_of_something_else_is_refused():
    with pytest.raises(InputError, match=r"field: 'model.k' is not allowed; one of step.variant, "):
        StepCell().changed({"model.k": 4})


@pytest.mark.parametrize(
    ("cell", "gap"),
    [
        (StepCell(k=4, path="timm"), ""),
        (StepCell("s1", k=1, path="timm"), ""),
        (StepCell(k=2), ""),
        (StepCell(k=2, path="timm"), "timm has mobileone_s0 with k = 4 alone"),
        (StepCell("tiny", k=4, path="timm"), "timm has s0, s1, s2, s3, s4, and not tiny"),
    ],
)
def test_what_timm_has_not_is_said(cell, gap):
    assert cell.gap == gap


@pytest.mark.parametrize("protocol", [PROTOCOLS["modelbench"], Protocol(trim=1)])
def test_a_step_is_neither_reloaded_nor_trimmed(protocol):
    with pytest.raises(InputError, match=r"reload|trim"):
        StepSpec(spec_of(StepCell()).entries, protocol)


@pytest.mark.parametrize("changes", [{"schema": 2}, {"protocol": {"pauses": 1}}, {"arms": [{"label": "x"}]}])
def test_another_versions_text_is_refused(changes):
    with pytest.raises(InputError, match="version"):
        read_spec(json.dumps(json.loads(spec_of(StepCell()).to_json()) | changes))
    with pytest.raises(InputError, match="version"):
        StepCell.from_dict({"kind": "step", "width": 2})
