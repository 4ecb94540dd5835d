"""The record as reports read it: finished cells, their curves, and what was measured side by side."""

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

from mlflow.entities import Run

from mobileone_core.fields import as_tuples
from mobileone_core.study.environment import ENTRY_TAGS, RUN_TAGS, VERSION
from mobileone_core.study.kinds import read_plan
from mobileone_core.study.plan import Plan, PlannedComparison
from mobileone_core.study.record.record import COUNT, FINISHED, PLAN, Record
from mobileone_core.study.rows import CellRow, CurvePoint, DeviceRow, EvaluationRow, StudyRecord


def read_record(tracking: str, plan: Plan) -> StudyRecord:
    """All that a report shows of a plan: rows in its order, teachers last; a gap where nothing is finished."""
    record = Record(tracking)
    found = list(record.runs(plan.study.name, _finished_in(plan.queue)))
    rows, problems = _rows_of(found, [cell.key for cell in (*plan.cells, *plan.teachers)])
    comparison: list[CellRow] = []
    for planned in plan.comparisons:
        measured, more = _compared(found, planned)
        comparison += measured
        problems += more
    own = {cell.key for cell in plan.cells}
    curves = [point for row in rows if row.key in own for point in _curves(record, row, plan.study.curves)]
    evaluations, devices = _beside(tracking) if plan.shows_standalone_runs else ((), ())
    return StudyRecord(rows, problems, comparison, curves, evaluations, devices)


def _beside(tracking: str) -> tuple[Sequence[EvaluationRow], Sequence[DeviceRow]]:
    """Evaluations of checkpoints and latencies on devices, which belong to no study."""
    from mobileone_core.study.record.devices import read_devices
    from mobileone_core.study.record.evaluations import read_evaluations

    return read_evaluations(tracking), read_devices(tracking)


def read_plans(tracking: str, study: str) -> list[Plan]:
    """The plans recorded for a study."""
    experiment = Record(tracking).experiment(study)
    tags = experiment.tags if experiment else {}
    return [read_plan(text) for name, text in sorted(tags.items()) if name.startswith(PLAN)]


def recorded_studies(tracking: str) -> list[str]:
    """The studies that have a plan in the record."""
    found = Record(tracking).client.search_experiments(order_by=["experiment_id ASC"])
    return [item.name for item in found if any(name.startswith(PLAN) for name in item.tags)]


def holds(tracking: str, plan: Plan, runs: Collection[str]) -> bool:
    """Whether the plan is recorded, these and no others of its runs are FINISHED, and none of its queue is open."""
    record = Record(tracking)
    experiment = record.experiment(plan.study.name)
    if experiment is None or experiment.tags.get(PLAN + plan.id) != plan.to_json():
        return False
    finished = record.runs(plan.study.name, _finished_in(plan.queue))
    keys = {cell.key for cell in plan.queued}
    found = {run.info.run_id for run in finished if run.data.tags["cell"] in keys}
    return found == set(runs) and not record.open_runs(plan.study.name, plan.queue)


def _finished_in(queue: str) -> str:
    """In MLflow's search language; two settings of a study may share cells, each with runs of its own."""
    return f"{FINISHED} AND tags.queue = '{queue}'"


def _rows_of(runs: Sequence[Run], keys: Sequence[str]) -> tuple[list[CellRow], list[str]]:
    """The runs of these cells, in the order of keys, and what is wrong with them in words."""
    wanted = {key: number for number, key in enumerate(keys)}
    rows = sorted((row for row in map(_row, runs) if row.key in wanted), key=lambda row: (wanted[row.key], row.run_id))
    by_key: dict[str, list[str]] = {}
    for row in rows:
        by_key.setdefault(row.key, []).append(row.run_id)
    problems = [
        f"cell {key} has {len(ids)} finished runs, where one is allowed: {', '.join(ids)}"
        for key, ids in by_key.items()
        if len(ids) > 1
    ]
    return rows, problems


def _compared(runs: Sequence[Run], planned: PlannedComparison) -> tuple[list[CellRow], list[str]]:
    """The rows of a comparison, levels in its order and the train form first; none of a part of one."""
    key = planned.key
    of_key = [run for run in runs if run.data.tags["cell"] == key]
    attempts = {run.data.tags["trial"] for run in of_key}
    count = int(of_key[0].data.tags[COUNT]) if of_key else 0
    if len(attempts) > 1 or len(of_key) != count:
        return [], [f"comparison {key} has {len(of_key)} finished runs of {len(attempts)} attempts, not {count} of one"]
    factors: dict[str, Sequence[str]] = {entry.label: tuple(entry.factors) for entry in planned.spec.entries}
    order = {label: number for number, label in enumerate(factors)}
    place = {run.info.run_id: (order[run.data.tags["level"]], run.data.tags.get("form") != "train") for run in of_key}
    rows = [_with_factors_as(_row(run), factors[run.data.tags["level"]]) for run in of_key]
    return sorted(rows, key=lambda row: place[row.run_id]), []


def _with_factors_as(row: CellRow, names: Sequence[str]) -> CellRow:
    """A row with its factors in the order in which the study declares them: the queue's JSON sorts them by name."""
    others = [name for name in row.factors if name not in names]
    return replace(row, factors={name: row.factors[name] for name in (*names, *others)})


def _curves(record: Record, row: CellRow, metrics: Sequence[str]) -> Iterator[CurvePoint]:
    """The last value of every epoch; a metric that was not logged has no points."""
    for name in metrics:
        history = record.client.get_metric_history(row.run_id, name)
        values = {point.step: point.value for point in sorted(history, key=lambda point: point.timestamp)}
        yield from (CurvePoint(row.key, name, epoch, value) for epoch, value in sorted(values.items()))


def _row(run: Run) -> CellRow:
    tags = run.data.tags
    environment = {
        name: text for name, text in tags.items() if name in (*RUN_TAGS, *ENTRY_TAGS) or name.startswith(VERSION)
    }
    levels = json.loads(tags["factors"])
    factors = as_tuples(levels)
    return CellRow(tags["cell"], int(tags["seed"]), factors, run.info.run_id, dict(run.data.metrics), environment)
