"""Evaluations as reports read them: finished ones of a variant as the paper has it."""

import dataclasses

import pytest

from mobileone_core.cli import console
from mobileone_core.model.spec import ModelSpec
from mobileone_core.study.record.access import excluded_runs, open_record
from mobileone_core.study.record.reading import read_evaluations
from mobileone_core.study.record.record import Record
from mobileone_core.study.record.standalone import standalone_run
from mobileone_core.study.workspace import Workspace

TAGS = {"variant": "s0", "data": "imagenet", "split": "test", "form": "deployed", "crop": "0.875"}
TAGS |= {"interpolation": "bilinear", "image_size": "224", "sha256": "abc"}


def evaluated(workspace, tags, images=50000.0, **changes):
    params = {f"model.{name}": value for name, value in dataclasses.asdict(ModelSpec.preset("s0", **changes)).items()}
    with standalone_run(workspace, "evaluate", "s0", tags, {**params, "data.channels": 3}) as run:
        run.log({"test/top1": 0.714, "test/images": images, "test/subset_top1": 0.8})
    return run.run_id


def read(workspace, excluded):
    with open_record(workspace.tracking) as record:
        return read_evaluations(record, excluded)


@pytest.mark.slow
def test_only_finished_runs_of_the_variant_as_it_is(tmp_path):
    workspace = Workspace.at(tmp_path)
    first = evaluated(workspace, TAGS)
    evaluated(workspace, TAGS, activation="gelu")
    evaluated(workspace, {name: text for name, text in TAGS.items() if name != "crop"})
    with pytest.raises(RuntimeError, match="broken"), standalone_run(workspace, "evaluate", "s0", TAGS, {}):
        raise RuntimeError("broken")
    (row,) = read(workspace, {})
    assert (row.run_id, row.variant, row.top1, row.images, row.crop) == (first, "s0", 0.714, 50000.0, "0.875")


@pytest.mark.slow
def test_accuracy_on_imagenet_a_and_r_is_that_among_their_200_classes(tmp_path):
    workspace = Workspace.at(tmp_path)
    for data in ("imagenet-a", "imagenet-sketch"):
        evaluated(workspace, TAGS | {"data": data})
    accuracies = {row.data: row.top1 for row in read(workspace, {})}
    assert accuracies == {"imagenet-a": 0.8, "imagenet-sketch": 0.714}


@pytest.mark.slow
def test_an_excluded_evaluation_is_not_read_until_it_is_taken_back(tmp_path, capsys):
    workspace = Workspace.at(tmp_path)
    first, second = evaluated(workspace, TAGS), evaluated(workspace, TAGS, images=1000.0)
    assert sum(row.is_imagenet for row in read(workspace, {})) == 1
    command = ["exclude", second[:12], "--runs", str(tmp_path)]
    assert console_status(command) == 0
    excluded = {}
    assert [row.run_id for row in read(workspace, excluded)] == [first]
    assert list(excluded) == [second]
    assert excluded_runs(workspace.tracking, "evaluate") == Record(workspace.tracking).excluded("evaluate") == {second}
    assert console_status([*command, "--undo"]) == 0
    assert len(read(workspace, {})) == 2
    assert console_status([*command, "--undo"]) == 2
    assert "an excluded run" in capsys.readouterr().err


def console_status(arguments):
    with pytest.raises(SystemExit) as ended:
        console(arguments)
    return ended.value.code
