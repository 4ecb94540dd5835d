"""Cells whose networks were not trained: their metric is that of guessing, or their recipe needs more steps."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar, cast

from mobileone_core.reporting.document import joined
from mobileone_core.reporting.metric import metric_of
from mobileone_core.study.least_squares import Contrast, Verdict
from mobileone_core.study.plan import PlannedCell, span
from mobileone_core.study.rows import CellRow
from mobileone_core.study.statistics import is_guessing
from mobileone_core.training.tasks import task_spec

Finished = tuple[PlannedCell, CellRow]
Judged = TypeVar("Judged", bound=Contrast)
UNTRAINED, SHORT = "not trained", "too few steps"
UNSHOWN = ("no difference shown", "no effect shown", "borderline", "not distinguished")


def chance_of(cell: PlannedCell, row: CellRow) -> float:
    """The metric of guessing: the task's, else the most frequent class's share if recorded, at least 1 / classes."""
    least = 1 / cell.spec.data.num_classes
    return task_spec(cell.spec.task).chance or max(least, row.metrics.get("test/majority", 0.0))


def chance_metric(cell: PlannedCell) -> str:
    """The metric that is compared with guessing."""
    task = task_spec(cell.spec.task)
    return task.chance_metric or task.metric


def is_untrained(cell: PlannedCell, row: CellRow) -> bool:
    """Whether a network only guesses; False for int8 networks, which training is not to blame for."""
    return not cell.spec.is_quantized and only_guesses(cell, row)


def only_guesses(cell: PlannedCell, row: CellRow) -> bool:
    """Whether the metric of the test images is no better than guessing; False if it or their number is not recorded."""
    value, images = row.metrics.get(chance_metric(cell)), row.metrics.get("test/images")
    if value is None or images is None:
        return False
    chance = chance_of(cell, row)
    return value <= chance if task_spec(cell.spec.task).has_head else is_guessing(value, images, chance)


def shortages(cell: PlannedCell, row: CellRow) -> list[str]:
    """Parts of the cell's recipe that need more steps than were taken; empty if their number is not recorded."""
    return cell.spec.recipe.shortages(int(row.metrics["train/steps"])) if "train/steps" in row.metrics else []


def finished_cells(cells: Iterable[PlannedCell], rows: Mapping[str, CellRow]) -> list[Finished]:
    """The cells that have a row, each with it."""
    return [(cell, rows[cell.key]) for cell in cells if cell.key in rows]


def judged(row: Judged, finished: Sequence[Finished]) -> Judged:
    """A contrast with the verdict that its finished cells allow."""
    return replace(row, verdict=cast("Verdict", allowed(row.verdict, finished)))


def allowed(verdict: str, finished: Sequence[Finished]) -> str:
    """The verdict that finished cells allow: none if one is untrained; a difference alone where steps are too few."""
    if any(is_untrained(*pair) for pair in finished):
        return UNTRAINED
    return SHORT if verdict in UNSHOWN and any(shortages(*pair) for pair in finished) else verdict


def untrained_sentences(cells: Mapping[str, Iterable[PlannedCell]], rows: Mapping[str, CellRow]) -> list[str]:
    """Sentences about untrained cells by name: those at chance with accuracies and a remedy, and recipes cut short."""
    names, guesses, short = [], list[Finished](), dict[str, None]()
    for name, group in cells.items():
        finished = finished_cells(group, rows)
        short |= dict.fromkeys(text for pair in finished for text in shortages(*pair))
        if guessing := [pair for pair in finished if is_untrained(*pair)]:
            names.append(name + ("" if len(guessing) == len(finished) else f" ({len(guessing)} of {len(finished)})"))
            guesses += guessing
    sentences = [f"Too few steps for the recipe: {'; '.join(short)}."] if short else []
    if names:
        first, _ = guesses[0]
        right = span([100 * row.metrics[chance_metric(cell)] for cell, row in guesses], ".2f")
        chance = span([100 * chance_of(*pair) for pair in guesses], ".2f")
        at_chance = f"{right} % of the test images right, where guessing gets {chance} %"
        if task_spec(first.spec.task).has_head:
            label = metric_of(chance_metric(first)).label
            at_chance = f"{label} {right} %, where nothing learned gets up to {chance} %"
        remedy = "train them first, for example by the recipe fitted, for more epochs or at another learning rate"
        sentences.insert(0, f"Not trained: {joined(names)}: {at_chance}. Nothing follows; {remedy}.")
    return sentences
