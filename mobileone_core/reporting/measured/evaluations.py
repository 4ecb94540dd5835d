"""evaluations.csv: accuracies that a person measured with weights of her own, as kept with a report. No torch here."""

import csv
import io
from collections.abc import Mapping, Sequence

from mobileone_core.reporting.render.csv import csv_text
from mobileone_core.study.rows import EvaluationRow

COLUMNS = ("variant", "data", "split", "form", "crop", "interpolation", "image_size", "sha256", "run_id")
NUMBERS = ("top1", "images")


def evaluations_text(rows: Sequence[EvaluationRow]) -> str:
    """A line a run, in full precision; empty without any."""
    lines = sorted(
        (*(getattr(row, name) for name in COLUMNS), *(repr(float(getattr(row, name))) for name in NUMBERS))
        for row in rows
    )
    return csv_text([(*COLUMNS, *NUMBERS), *lines]) if lines else ""


def read_evaluations_csv(text: str) -> tuple[EvaluationRow, ...]:
    """What evaluations_text wrote. Raises KeyError and ValueError for anything else."""
    return tuple(map(_row, csv.DictReader(io.StringIO(text))))


def _row(line: Mapping[str, str]) -> EvaluationRow:
    top1, images = (float(line[name]) for name in NUMBERS)
    return EvaluationRow(**{name: line[name] for name in COLUMNS}, top1=top1, images=images)
