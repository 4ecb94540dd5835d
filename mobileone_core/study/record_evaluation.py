"""The record of evaluations: one flat run each in the experiment "evaluate", which holds no plan and no cells."""

import contextlib
import dataclasses
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param

from mobileone_core.errors import InputError
from mobileone_core.model.spec import PRESETS, ModelSpec
from mobileone_core.study.job import one_line
from mobileone_core.study.planner import planning
from mobileone_core.study.process import Owner
from mobileone_core.study.record import FINISHED, PLAN, RECORD_ERRORS, Record, create_record
from mobileone_core.study.rows import EvaluationRow
from mobileone_core.study.server import planning_alone, refusal
from mobileone_core.study.workspace import Workspace, shown

EXPERIMENT = "evaluate"
OWNER = "owner"  # the tag that tells which process writes a run


@dataclass(frozen=True)
class EvaluationRun:
    """A run that is being written."""

    client: MlflowClient
    run_id: str

    def log(self, metrics: Mapping[str, float]) -> None:
        """Log the metrics, at step 0."""
        now = round(time.time() * 1000)
        self.client.log_batch(self.run_id, [Metric(name, value, now, 0) for name, value in metrics.items()])


@contextlib.contextmanager
def evaluation_run(
    workspace: Workspace, name: str, tags: Mapping[str, str], params: Mapping[str, Any]
) -> Iterator[EvaluationRun]:
    """A run with its tags from the first moment: FINISHED, KILLED by an interrupt, or FAILED with its error.

    Creates the record and the experiment where they are missing, and ends the runs that dead processes of this
    machine left open. Raises InputError where the record cannot be used.
    """
    try:
        record, experiment = _opened(workspace)
        owner = json.dumps(dataclasses.asdict(Owner.here()))
        started = record.client.create_run(experiment, tags={"study": EXPERIMENT, OWNER: owner, **tags}, run_name=name)
        run = EvaluationRun(record.client, started.info.run_id)
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
        raise refusal("record", workspace.tracking, error) from error


def read_evaluations(tracking: str) -> tuple[EvaluationRow, ...]:
    """The finished evaluations of variants as the paper has them, on the images they were read from."""
    runs = Record(tracking).runs(EXPERIMENT, FINISHED)
    rows = [row for run in runs for row in _row(run.info.run_id, run.data.tags, run.data.params, run.data.metrics)]
    return tuple(sorted(rows, key=lambda row: (row.variant, row.run_id)))


def _row(
    run_id: str, tags: Mapping[str, str], params: Mapping[str, str], metrics: Mapping[str, float]
) -> Iterator[EvaluationRow]:
    """One row, or none where the network was changed or the run is of another version."""
    texts = ("variant", "data", "split", "form", "crop", "interpolation", "image_size", "sha256")
    numbers = [f"{tags.get('split')}/{name}" for name in ("top1", "images")]
    if not tags.keys() >= set(texts) or not metrics.keys() >= set(numbers) or tags["variant"] not in PRESETS:
        return
    channels = int(params.get("data.channels", "3"))
    preset = ModelSpec.preset(tags["variant"], in_channels=channels).fitted_to(int(tags["image_size"]))
    wanted = {f"model.{name}": str(value) for name, value in dataclasses.asdict(preset).items()}
    if all(params.get(name) == value for name, value in wanted.items()):
        top1, images = (metrics[name] for name in numbers)
        yield EvaluationRow(**{name: tags[name] for name in texts}, run_id=run_id, top1=top1, images=images)


def _opened(workspace: Workspace) -> tuple[Record, str]:
    """The record and the number of its experiment; one process at a time creates them."""
    with planning(workspace), planning_alone(workspace.tracking):
        create_record(workspace)
        record = Record(workspace.tracking)
        number = _experiment(record, workspace)
    for run in record.runs(EXPERIMENT, "attributes.status = 'RUNNING'"):
        owner = Owner.read(json.loads(run.data.tags.get(OWNER, "null")))
        if owner is not None and owner.is_gone:
            record.end(run.info.run_id, "KILLED")
    return record, number


def _experiment(record: Record, workspace: Workspace) -> str:
    found = record.experiment(EXPERIMENT)
    if found is not None and any(name.startswith(PLAN) for name in found.tags):
        raise InputError.of("study", EXPERIMENT, f"the record {shown(record.tracking)} has a study of this name")
    return str(record.opened(EXPERIMENT, workspace.artifacts).experiment_id)
