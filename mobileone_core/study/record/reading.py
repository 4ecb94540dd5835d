"""The record as reports read it: finished cells, their curves, comparisons, and evaluations of checkpoints."""

import contextlib
import itertools
import json
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from mobileone_core.errors import InputError, require
from mobileone_core.fields import as_tuples
from mobileone_core.model.spec import PRESETS, ModelSpec
from mobileone_core.study.environment import ENTRY_TAGS, FOLDER_TAGS, RUN_TAGS, VERSION
from mobileone_core.study.factor import level_label
from mobileone_core.study.plan import Plan, PlannedComparison
from mobileone_core.study.record.access import RecordReader, connected, open_record
from mobileone_core.study.record.tables import COUNT, RecordedRun, included
from mobileone_core.study.rows import CellRow, CurvePoint, DeviceRow, EvaluationRow, StudyRecord
from mobileone_core.study.workspace import redacted
from mobileone_core.training.cell import CellSpec
from mobileone_core.training.model_card import CARD, EXAMPLES, ModelCard, model_card
from mobileone_core.training.tasks import task_spec

ENVIRONMENT = (*RUN_TAGS, *ENTRY_TAGS, *FOLDER_TAGS)  # tags of a row, and those of versions
EVALUATIONS = "evaluate"  # the experiment of evaluations
LEVELS = 4  # whose examples a report shows
SHOWN = 4  # candidates of an ambiguous run in its message
SUBSETS = ("imagenet-a", "imagenet-r")  # published among their own 200 classes


def read_record(tracking: str, plan: Plan) -> StudyRecord:
    """Everything that a report shows of a plan.

    Rows stand in the plan's order, teachers last; a cell without a finished run has none. Evaluations and latencies on
    devices, which belong to no study, are read for plans that show them. Raises InputError if the record cannot be
    used.
    """
    order = {cell.key: number for number, cell in enumerate((*plan.cells, *plan.teachers))}
    compared: dict[str, list[RecordedRun]] = {planned.key: [] for planned in plan.comparisons}
    rows, comparison, excluded = list[CellRow](), list[CellRow](), dict[str, str]()
    with open_record(tracking) as record:
        for run in included(record.finished_cells(plan.study.name, plan.queue, {*order, *compared}), excluded):
            if (key := run.tags["cell"]) in order:
                rows.append(_row(run))
            else:
                compared[key].append(run)
        rows.sort(key=lambda row: (order[row.key], row.run_id))
        curves = _curves(record, plan, rows) if plan.curves else []
        standalone: tuple[tuple[EvaluationRow, ...], tuple[DeviceRow, ...]] = ((), ())
        if plan.shows_standalone_runs:
            from mobileone_core.study.record.standalone import read_devices  # and with it NumPy

            standalone = read_evaluations(record, excluded), read_devices(record, excluded)
    problems = _doubled(rows)
    for planned in plan.comparisons:
        if planned.key not in excluded.values():  # without one of its runs a comparison is none
            measured, more = _compared(compared[planned.key], planned)
            comparison += measured
            problems += more
    examples = _examples(tracking, plan, rows)
    return StudyRecord(rows, problems, comparison, curves, *standalone, tuple(excluded), examples)


def _doubled(rows: Sequence[CellRow]) -> list[str]:
    """A problem per cell with several finished runs; the rows of a cell follow each other."""
    runs = [(key, [row.run_id for row in group]) for key, group in itertools.groupby(rows, lambda row: row.key)]
    text = "cell {} has {} finished runs, where one is allowed: {}"
    return [text.format(key, len(ids), ", ".join(ids)) for key, ids in runs if len(ids) > 1]


def _compared(runs: Sequence[RecordedRun], planned: PlannedComparison) -> tuple[list[CellRow], list[str]]:
    """Rows of a comparison, levels in its order and the train form first; none of an incomplete one."""
    key = planned.key
    attempts = {run.tags["trial"] for run in runs}
    count = int(runs[0].tags[COUNT]) if runs else 0
    if len(attempts) > 1 or len(runs) != count:
        return [], [f"comparison {key} has {len(runs)} finished runs of {len(attempts)} attempts, not {count} of one"]
    rows = []
    for entry in planned.spec.entries:
        of_entry = [run for run in runs if run.tags["level"] == entry.label]
        for row in map(_row, sorted(of_entry, key=lambda run: run.tags.get("form") != "train")):
            rows.append(replace(row, factors={**entry.factors, **row.factors}))  # the queue's JSON sorts them by name
    return rows, []


def _curves(record: RecordReader, plan: Plan, rows: Sequence[CellRow]) -> list[CurvePoint]:
    """The study's curves of its own cells; a metric that was not logged has no points."""
    cells = {cell.key for cell in plan.cells}
    keys = {row.run_id: row.key for row in rows if row.key in cells}
    return [
        CurvePoint(keys[run_id], metric, epoch, value)
        for run_id, metric, values in record.curves(list(keys), plan.curves)
        for epoch, value in sorted(values.items())
    ]


def _examples(tracking: str, plan: Plan, rows: Sequence[CellRow]) -> dict[str, bytes]:
    """The example images of the first cell of each of the first levels, by the cell's key; of tasks that have some."""
    examples = dict[str, tuple[str, bytes]]()  # by level
    if rows and any(task_spec(cell.spec.task).has_head for cell in plan.cells[:1]):
        with connected(tracking) as record, tempfile.TemporaryDirectory() as directory:
            for row in (row for row in rows if level_label(row.factors) not in examples):
                with contextlib.suppress(InputError):  # not every run has one
                    file = record.file(row.run_id, EXAMPLES, Path(directory, row.key))
                    examples[level_label(row.factors)] = row.key, file.read_bytes()
    return dict([*examples.values()][:LEVELS])


def _row(run: RecordedRun) -> CellRow:
    tags = run.tags
    shown = {name: text for name, text in tags.items() if name in ENVIRONMENT or name.startswith(VERSION)}
    environment = {sys.intern(name): sys.intern(text) for name, text in shown.items()}  # one copy of what rows share
    factors = as_tuples(json.loads(tags["factors"]))
    return CellRow(tags["cell"], int(tags["seed"]), factors, run.run_id, run.metrics, environment)


def read_evaluations(record: RecordReader, excluded: dict[str, str]) -> tuple[EvaluationRow, ...]:
    """Finished evaluations of unchanged variants. Ids of those that reports leave out are added to excluded."""
    rows = [row for run in included(record.finished(EVALUATIONS), excluded) for row in _evaluations(run)]
    return tuple(sorted(rows, key=lambda row: (row.variant, row.run_id)))


def _evaluations(run: RecordedRun) -> Iterator[EvaluationRow]:
    """One row; none if the network differs from its variant or another version wrote the run."""
    tags = run.tags
    texts = ("variant", "data", "split", "form", "crop", "interpolation", "image_size", "sha256")
    accuracy = "subset_top1" if tags.get("data") in SUBSETS else "top1"
    numbers = [f"{tags.get('split')}/{name}" for name in (accuracy, "images")]
    if not tags.keys() >= set(texts) or not run.metrics.keys() >= set(numbers) or tags["variant"] not in PRESETS:
        return
    channels = int(run.params.get("data.channels", "3"))
    preset = ModelSpec.preset(tags["variant"], in_channels=channels).fitted_to(int(tags["image_size"]))
    fields = {f"model.{name}": str(value) for name, value in asdict(preset).items()}
    if all(run.params.get(name) == value for name, value in fields.items()):
        top1, images = (run.metrics[name] for name in numbers)
        yield EvaluationRow(**{name: tags[name] for name in texts}, run_id=run.run_id, top1=top1, images=images)


def resolve_run(tracking: str, run: str) -> str:
    """The full id of a run named by its id or the beginning of it. Raises InputError unless exactly one run fits."""
    prefix = run.strip().lower()
    require(re.fullmatch("[0-9a-f]{1,32}", prefix) is not None, "run", run, "a run's id, or how it begins")
    with open_record(tracking) as record:
        runs = record.run_ids(prefix)
    require(bool(runs), "run", run, f"a run of the record {redacted(tracking)}; mobileone status shows them")
    if len(runs) > 1:
        shown = ", ".join(f"{item[:12]} ({name})" for item, name in sorted(runs.items())[:SHOWN])
        raise InputError.of("run", run, f"more of the id: {len(runs)} runs begin so, {shown}")
    return next(iter(runs))


@dataclass(frozen=True)
class FinishedRun:
    """A finished cell: its run's id, the file of its final weights, its metrics (accuracies are fractions) and variant.

    card: the cell with its class names and preprocessing.
    """

    run_id: str
    card: ModelCard
    weights: Path
    metrics: Mapping[str, float]
    variant: str


def read_run(tracking: str, run: str, directory: Path, which: str = "auto") -> FinishedRun:
    """Read a finished cell's run, named by its id or the beginning of it. Raises InputError.

    Files of a server are downloaded into directory. which: "auto" for the final weights, which are averaged if the
    recipe averages; "ema" for averaged ones; "model" for those that are not, which have no metrics of their own then.
    """
    from mobileone_core.study.record.record import RAW_WEIGHTS, WEIGHTS

    run_id = resolve_run(tracking, run)
    with connected(tracking) as record:
        recorded = record.client.get_run(run_id)
        status, tags = recorded.info.status, recorded.data.tags
        require(status == "FINISHED", "run", f"{run_id} ({status})", "a FINISHED run")
        require("cell" in tags and COUNT not in tags, "run", run_id, "a run of a trained cell: this one has no weights")
        spec = CellSpec.from_json(record.file(run_id, "cell.json", directory).read_text(encoding="utf-8"))
        has_averaged = spec.recipe.ema_decay > 0
        require(has_averaged or which != "ema", "which", which, f"auto or model: run {run_id} averages no weights")
        is_raw = has_averaged and which == "model"
        weights = record.file(run_id, RAW_WEIGHTS if is_raw else WEIGHTS, directory)
        try:
            card = ModelCard.read(json.loads(record.file(run_id, CARD, directory).read_text(encoding="utf-8")))
        except InputError:  # older runs have none
            card = model_card(spec, None)
    metrics = {} if is_raw else dict(recorded.data.metrics)
    return FinishedRun(run_id, card, weights, metrics, tags.get("variant", ""))
