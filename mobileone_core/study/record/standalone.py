"""Runs that belong to no study: evaluations of checkpoints and latencies on devices, each kind in its experiment."""

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Mapping
from typing import Any

from mlflow.entities import Param

from mobileone_core.errors import InputError, require
from mobileone_core.study.database import database_error
from mobileone_core.study.declaration import RESERVED
from mobileone_core.study.locks import planning
from mobileone_core.study.process import Owner
from mobileone_core.study.record.record import RECORD_ERRORS, Record, create_record
from mobileone_core.study.record.tables import PLAN
from mobileone_core.study.record.writer import RunWriter
from mobileone_core.study.workspace import Workspace, one_line, redacted

OWNER = "owner"  # the tag that tells which process writes a run


@contextlib.contextmanager
def standalone_run(
    workspace: Workspace, experiment: str, name: str, tags: Mapping[str, str], params: Mapping[str, Any]
) -> Iterator[RunWriter]:
    """Write a run of a reserved experiment, with its tags from the first moment.

    It ends FINISHED, KILLED by an interrupt, or FAILED with its error. The record and the experiment are created if
    they are missing; runs that dead processes of this machine left open are ended. Raises InputError if the record
    cannot be used.
    """
    require(experiment in RESERVED, "experiment", experiment, f"one of {', '.join(RESERVED)}")
    try:
        record, number = _opened(workspace, experiment)
        owner = json.dumps(dataclasses.asdict(Owner.here()))
        started = record.client.create_run(number, tags={"study": experiment, OWNER: owner, **tags}, run_name=name)
        run = RunWriter(record.client, started.info.run_id)
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
    """The record and the id of the experiment; one process at a time creates them."""
    with planning(workspace.runs, workspace.tracking):
        create_record(workspace)
        record = Record(workspace.tracking)
        if any(name.startswith(PLAN) for name in record.experiment_tags(experiment)):
            taken = f"the record {redacted(record.tracking)} has a study of this name"
            raise InputError.of("study", experiment, taken)
        number = str(record.create_experiment(experiment, workspace.artifacts).experiment_id)
    for run in record.runs(experiment, "attributes.status = 'RUNNING'"):
        owner = Owner.read(json.loads(run.data.tags.get(OWNER, "null")))
        if owner is not None and owner.is_gone:
            record.end(run.info.run_id, "KILLED")
    return record, number
