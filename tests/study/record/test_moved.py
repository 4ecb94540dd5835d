"""A runs directory that is moved or copied is used from where it is, and leaves the original alone."""

import shutil

import pytest
from study_fakes import small_plan
from study_proof import assert_exactly_once, finished_workspace, in_child, plan_and_work

from mobileone_core.study.record.reading import read_record
from mobileone_core.study.record.record import WEIGHTS, Record, create_record
from mobileone_core.study.workspace import Workspace

PLAN, MORE = (small_plan(levels=(1, 2), seeds=seeds, epochs=2) for seeds in (1, 2))


@pytest.fixture(scope="module")
def finished(databases, tmp_path_factory):
    return finished_workspace(PLAN, databases, tmp_path_factory.mktemp("original & co") / "runs %41")


def content(directory):
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.mark.parametrize("is_moved", [False, True])
def test_a_study_goes_on_where_its_runs_directory_went(finished, tmp_path, is_moved):
    first = Workspace.at(tmp_path / "first")
    shutil.copytree(finished.runs, first.runs)
    create_record(first)
    before, there = content(finished.runs), Workspace.at(tmp_path / "there é")
    if is_moved:
        first.runs.rename(there.runs)
    else:
        shutil.copytree(first.runs, there.runs)
        before |= content(first.runs)
    assert in_child(plan_and_work, MORE, there) == 0
    assert_exactly_once(MORE, there)
    assert {path: path.read_bytes() for path in before} == before
    assert first.runs.exists() != is_moved
    record = Record(there.tracking)
    for row in read_record(there.tracking, MORE).rows:
        uri = record.client.get_run(row.run_id).info.artifact_uri
        assert uri.startswith(f"{there.artifacts.as_uri()}/")  # where MLflow's own pages look
        assert record.client.download_artifacts(row.run_id, WEIGHTS, str(tmp_path))
    assert len(list((there.artifacts / PLAN.study.name).iterdir())) == 4


def test_a_record_that_is_shared_by_runs_directories_is_left_as_it_is(finished, tmp_path):
    workspace = Workspace.at(tmp_path / "runs", tracking=finished.tracking)
    before = content(finished.runs)
    create_record(workspace)
    assert content(finished.runs) == before
