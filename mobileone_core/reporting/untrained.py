"""Cells whose networks were not trained: their accuracy is that of guessing, or their recipe needs more steps."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from mobileone_core.reporting.document import joined
from mobileone_core.study.plan import PlannedCell
from mobileone_core.study.rows import CellRow
from mobileone_core.study.statistics import Contrast, is_guessing

Finished = tuple[PlannedCell, CellRow]
Judged = TypeVar("Judged", bound=Contrast)
UNSHOWN = ("no difference shown", "no effect shown", "borderline")
ACCURACY, IMAGES, MAJORITY, STEPS = "test/top1", "test/images", "test/majority", "train/steps"


def chance_of(cell: PlannedCell, row: CellRow) -> float:
    """The accuracy of guessing: the share of the most frequent class if it is recorded, at least 1 / classes."""
    return max(1 / cell.spec.data.num_classes, row.metrics.get(MAJORITY, 0.0))


def is_untrained(cell: PlannedCell, row: CellRow) -> bool:
    """Whether the test accuracy is no better than guessing; False if accuracy or number of images is not recorded."""
    accuracy, images = row.metrics.get(ACCURACY), row.metrics.get(IMAGES)
    return accuracy is not None and bool(images) and is_guessing(accuracy, images or 0, chance_of(cell, row))


def shortages(cell: PlannedCell, row: CellRow) -> list[str]:
    """What of the cell's recipe needs more steps than were taken; empty if their number is not recorded."""
    steps = int(row.metrics.get(STEPS, 0))
    return [f"{text} (of {steps:,} in all)" for text in cell.spec.recipe.shortages(steps)] if steps else []


def judged(row: Judged, finished: Sequence[Finished]) -> Judged:
    """A contrast with the verdict that its finished cells allow: none if one is untrained.

    Too few steps show a difference, if there is one, but not that there is none.
    """
    if any(is_untrained(*pair) for pair in finished):
        return replace(row, verdict="not trained")
    is_short = row.verdict in UNSHOWN and any(shortages(*pair) for pair in finished)
    return replace(row, verdict="too few steps") if is_short else row


def untrained_sentences(cells: Mapping[str, Iterable[PlannedCell]], rows: Mapping[str, CellRow]) -> list[str]:
    """What was not trained, by name of cells: those at chance with accuracies and a remedy, and recipes cut short."""
    names, accuracies, chances = [], [], []
    short = dict[str, None]()
    for name, group in cells.items():
        finished = [(cell, rows[cell.key]) for cell in group if cell.key in rows]
        guessing = [(cell, row) for cell, row in finished if is_untrained(cell, row)]
        if guessing:
            names.append(name + ("" if len(guessing) == len(finished) else f" ({len(guessing)} of {len(finished)})"))
        accuracies += [row.metrics[ACCURACY] for _, row in guessing]
        chances += [chance_of(*pair) for pair in guessing]
        short |= dict.fromkeys(text for pair in finished for text in shortages(*pair))
    sentences = [f"Too few steps for the recipe: {'; '.join(short)}."] if short else []
    if not names:
        return sentences
    remedy = "" if short else ", for example with more epochs, another learning rate or the recipe fitted"
    at_chance = f"{_percent(accuracies)} % of the test images right, where guessing gets {_percent(chances)} %"
    return [f"Not trained: {joined(names)}: {at_chance}. Nothing follows; train them first{remedy}.", *sentences]


def _percent(fractions: Iterable[float]) -> str:
    ends = sorted(fractions)
    return " to ".join(dict.fromkeys(f"{100 * end:.2f}" for end in (ends[0], ends[-1])))
