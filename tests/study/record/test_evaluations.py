"""Evaluations as reports read them: finished ones of a variant as the paper has it."""

import dataclasses

import pytest

from mobileone_core.model.spec import ModelSpec
from mobileone_core.study.record.reading import read_evaluations
from mobileone_core.study.record.standalone import standalone_run
from mobileone_core.study.workspace import Workspace

TAGS = {"variant": "s0", "data": "imagenet", "split": "test", "form": "deployed", "crop": "0.875"}
TAGS |= {"interpolation": "bilinear", "image_size": "224", "sha256": "abc"}


def evaluated(workspace, tags, **changes):
    params = {f"model.{name}": value for name, value in dataclasses.asdict(ModelSpec.preset("s0", **changes)).items()}
    with standalone_run(workspace, "evaluate", "s0", tags, {**params, "data.channels": 3}) as run:
        run.log({"test/top1": 0.714, "test/images": 50000.0})
    return run.run_id


def test_only_finished_runs_of_the_variant_as_it_is(tmp_path):
    workspace = Workspace.at(tmp_path)
    first = evaluated(workspace, TAGS)
    evaluated(workspace, TAGS, activation="gelu")
    evaluated(workspace, {name: text for name, text in TAGS.items() if name != "crop"})
    with pytest.raises(RuntimeError, match="broken"), standalone_run(workspace, "evaluate", "s0", TAGS, {}):
        raise RuntimeError("broken")
    (row,) = read_evaluations(workspace.tracking)
    assert (row.run_id, row.variant, row.top1, row.images, row.crop) == (first, "s0", 0.714, 50000.0, "0.875")
