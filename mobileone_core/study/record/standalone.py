"""Runs that belong to no study: one flat run each in an experiment of its own, which holds no plan and no cells."""

import contextlib
import dataclasses
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param

from mobileone_core.errors import InputError, require
from mobileone_core.study.database import database_error
from mobileone_core.study.declaration import RESERVED
from mobileone_core.study.job import one_line
from mobileone_core.study.locks import planning
from mobileone_core.study.process import Owner
from mobileone_core.study.record.record import PLAN, RECORD_ERRORS, Record, create_record
from mobileone_core.study.workspace import Workspace, redacted

OWNER = "owner"  # the tag that tells which process writes a run


@dataclass(frozen=True)
class OneRun:
    """A run that is being written."""

    client: MlflowClient
    run_id: str

    def log(self, metrics: Mapping[str, float]) -> None:
        """Log the metrics, at step 0."""
        now = round(time.time() * 1000)
        self.client.log_batch(self.run_id, [Metric(name, value, now, 0) for name, value in metrics.items()])

    def text(self, name: str, content: str) -> None:
        """Keep a text as an artifact."""
        self.client.log_text(self.run_id, content, name)

    def file(self, path: Path, directory: str) -> None:
        """Keep a file, or a directory with all it holds, as an artifact."""
        keep = self.client.log_artifacts if path.is_dir() else self.client.log_artifact
        keep(self.run_id, str(path), directory)


@contextlib.contextmanager
def one_run(
    workspace: Workspace, experiment: str, name: str, tags: Mapping[str, str], params: Mapping[str, Any]
) -> Iterator[OneRun]:
    """A run of one of RESERVED with its tags from the first moment: FINISHED, KILLED by an interrupt, or FAILED with
    its error.

    Creates the record and the experiment where they are missing, and ends the runs that dead processes of this
    machine left open. Raises InputError where the record cannot be used.
    """
    require(experiment in RESERVED, "experiment", experiment, f"one of {', '.join(RESERVED)}")
    try:
        record, number = _opened(workspace, experiment)
        owner = json.dumps(dataclasses.asdict(Owner.here()))
        said = {"study": experiment, OWNER: owner, **tags}
        started = record.client.create_run(number, tags=said, run_name=name)
        run = OneRun(record.client, started.info.run_id)
        try:
            record.client.log_batch(run.run_id, params=[Param(key, str(value)) for key, value in params.items()])
            yield run
        except KeyboardInterrupt:
            record.end(run.run_id, "KILLED")
            raise
        except BaseException as error:
            record.end(run.run_id, "FAILED", one_line(error))
            raise
        record.end(run.run_id, "FINISHED")
    except RECORD_ERRORS as error:
        raise database_error("record", workspace.tracking, error) from error


def _opened(workspace: Workspace, experiment: str) -> tuple[Record, str]:
    """The record and the number of its experiment; one process at a time creates them."""
    with planning(workspace.runs, workspace.tracking):
        create_record(workspace)
        record = Record(workspace.tracking)
        number = _experiment(record, workspace, experiment)
    for run in record.runs(experiment, "attributes.status = 'RUNNING'"):
        owner = Owner.read(json.loads(run.data.tags.get(OWNER, "null")))
        if owner is not None and owner.is_gone:
            record.end(run.info.run_id, "KILLED")
    return record, number


def _experiment(record: Record, workspace: Workspace, experiment: str) -> str:
    found = record.experiment(experiment)
    if found is not None and any(name.startswith(PLAN) for name in found.tags):
        raise InputError.of("study", experiment, f"the record {redacted(record.tracking)} has a study of this name")
    return str(record.opened(experiment, workspace.artifacts).experiment_id)
