"""Networks that were not trained are named, and nothing is compared with them."""

import runpy
from dataclasses import replace
from pathlib import Path

import pytest

from mobileone_core.cli.options.study import parse
from mobileone_core.data.spec import DataSpec
from mobileone_core.reporting.render import terminal
from mobileone_core.reporting.trained.kind import trained_document
from mobileone_core.reporting.trained.result import analyse
from mobileone_core.reporting.untrained import is_untrained
from mobileone_core.study.declaration import Factor
from mobileone_core.study.rows import CellRow, StudyRecord
from mobileone_core.study.statistics import is_guessing

STUDIES = Path(__file__).parents[2] / "studies"


def measured(row, top1, **metrics):
    """A row whose network gets a share of 120 test images right."""
    return replace(row, metrics={**row.metrics, "test/top1": top1, "test/images": 120.0, **metrics})


def report(plan, rows):
    document = trained_document(analyse(plan, StudyRecord(tuple(rows))))
    return document, terminal.render(document)


def test_chance_is_that_of_a_binomial():
    assert is_guessing(0.25, 120, 0.25)
    assert is_guessing(0.0, 120, 0.25)
    assert is_guessing(0.33, 120, 0.25)
    assert not is_guessing(0.37, 120, 0.25)
    assert is_guessing(0.5, 8, 0.25)


def test_guessing_the_most_frequent_class_is_no_skill(plan, make_row):
    row = make_row(plan.cells[0], 80)
    assert not is_untrained(plan.cells[0], measured(row, 0.8))
    assert is_untrained(plan.cells[0], measured(row, 0.8, **{"test/majority": 0.8}))
    assert not is_untrained(plan.cells[0], row), "the number of images isn't recorded"


def test_no_effect_is_not_said_of_untrained_networks(plan, rows):
    document, text = report(plan, [measured(row, 0.1, **{"train/steps": 216.0}) for row in rows])
    assert document.verdict.startswith(
        "Not trained: k = 1, k = 2 and k = 4: 10.00 % of the test images right, where guessing gets 10.00 %. Nothing"
    )
    assert "No effect" not in text
    assert "no difference" not in text.lower().replace("We never", "")
    assert {row[-len(document.table.columns) + 5] for row in document.table.rows} == {"not trained"}


def test_a_level_with_a_cell_at_chance_is_not_compared(plan, rows):
    first = next(row for row in rows if row.factors["k"] == 4)
    document, text = report(plan, [measured(row, 0.1 if row is first else row.metrics["test/top1"]) for row in rows])
    assert "Not trained: k = 4 (1 of 3): 10.00 %" in document.verdict
    assert "k = 4: not compared, networks were not trained." in document.verdict
    assert "k = 2" in text
    verdicts = [row.verdict for row in analyse(plan, StudyRecord(tuple(rows))).analysis.comparisons]
    assert "not trained" not in verdicts


def test_too_few_steps_are_named_and_show_no_absence(plan, rows):
    document, _ = report(plan, [measured(row, row.metrics["test/top1"], **{"train/steps": 36.0}) for row in rows])
    assert document.verdict.startswith(
        "Too few steps for the recipe: fewer than 100 steps teach a network little (of 36 in all); "
        "ema_decay 0.95 averages over 20 steps, more than a third (of 36 in all)."
    )
    assert "k = 4 is better than k = 1" in document.verdict
    assert "k = 2: no difference is shown, which so few steps may hide." in document.verdict
    assert "too few steps" in document.table.rows[1]


def test_effects_of_untrained_networks_are_not_tested(make_plan, make_row):
    factors = (Factor("k", "model.k", (1, 4), 1), Factor("ema", "recipe.nesterov", (False, True), False))
    plan = make_plan(factors=factors, published="")
    document, _ = report(plan, [measured(make_row(cell, 10), 0.1) for cell in plan.cells])
    assert "No main effect is tested: not compared, networks were not trained." in document.verdict


@pytest.mark.parametrize(("name", "is_shown"), [("digits", True), ("imagenet", True), ("folder", False)])
def test_the_papers_numbers_do_not_stand_next_to_those_of_a_folder(plan, name, is_shown):
    data = DataSpec(name)
    elsewhere = replace(plan, base=replace(plan.base, data=data), study=replace(plan.study, data=name), default=False)
    document, _ = report(elsewhere, ())
    assert any(column.head.startswith("published") for column in document.table.columns) == is_shown
    assert any("*Published*" in note for note in document.notes) == is_shown


@pytest.mark.parametrize(
    ("study", "metric", "learned", "guessed", "words"),
    [
        ("detection", "test/map50", 0.2, 0.004, "AP 50 0.40 %, where nothing learned gets up to 1.00 %"),
        ("segmentation", "test/miou", 0.12, 0.09, "mIoU 9.00 %, where nothing learned gets up to 9.09 %"),  # 11 classes
    ],
)
def test_detectors_and_segmenters_that_learned_nothing_are_named(study, metric, learned, guessed, words):
    plan = parse(runpy.run_path(str(STUDIES / f"{study}.py"))["STUDY"], ()).request.plan
    for value, is_named in ((learned, False), (guessed, True)):
        metrics = {"test/map": value / 2, "test/images": 1000.0, metric: value}
        rows = [CellRow(cell.key, cell.seed, cell.factors, f"run{cell.key}", metrics, {}) for cell in plan.cells]
        document, _ = report(plan, rows)
        assert (words in document.verdict and document.verdict.startswith("Not trained: ")) == is_named
