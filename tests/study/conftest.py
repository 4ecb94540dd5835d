"""Fixtures; the helpers beside this file can be imported by name, in worker processes too."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from mobileone_core.study.workspace import Workspace


@pytest.fixture
def workspace(tmp_path):
    return Workspace.at(tmp_path / "runs")


@pytest.fixture(scope="session")
def databases(tmp_path_factory):
    """A directory with both databases, empty."""
    from study_proof import in_child

    from mobileone_core.study.queue.storage import create_queue
    from mobileone_core.study.record.record import create_record

    directory = tmp_path_factory.mktemp("databases")
    place = Workspace.at(directory)

    def create():
        create_queue(place.queue)
        create_record(place)

    assert in_child(create) == 0
    return directory


@pytest.fixture
def copy(finished, workspace):
    """The databases of a module's finished workspace, to change."""
    from study_proof import give_databases

    give_databases(finished.runs, workspace)
    return workspace
