"""One level, one seed, no spread, ties: a verdict in words, and never "nan" or "inf"."""

import re

import pytest

from mobileone_core.reporting.figures.levels import draw
from mobileone_core.reporting.render import csv, latex, markdown, terminal
from mobileone_core.reporting.trained.kind import trained_document
from mobileone_core.reporting.trained.result import analyse
from mobileone_core.study.declaration import Factor
from mobileone_core.study.rows import StudyRecord

ONE, THREE = Factor("k", "model.k", (1,), 1), Factor("k", "model.k", (1, 2, 4), 1)
OTHER = Factor("nesterov", "recipe.nesterov", (False, True), False)


@pytest.mark.parametrize(
    ("shape", "percent", "verdict"),
    [
        (((ONE,), 3), lambda _, seed: 95 + seed, "Only one level: nothing to compare."),
        (((ONE,), 1), lambda *_: 95, "Only one level: nothing to compare."),
        (((THREE,), 1), lambda k, _: 95 + k, "k = 2 and 4: not enough seeds."),
        (((THREE,), 3), lambda *_: 100, "k = 2 and 4: not tested, the values have no spread."),
        (((THREE,), 3), lambda k, _: 90 + k, "k = 2 and 4: not tested, the values have no spread."),
        (((THREE,), 3), lambda _, seed: 95 + seed, "k = 2 and 4: not tested, the values have no spread."),
        (((THREE,), 3), lambda k, seed: 95 + 1e-12 * seed * k, "k = 2 and 4: not tested, the values have no spread."),
        (((THREE, OTHER), 1), lambda k, _: 90 + k, "No main effect is tested: not enough seeds."),
        (((THREE, OTHER), 3), lambda *_: 95, "No main effect is tested: not tested, the values have no spread."),
    ],
)
def test_a_degenerate_study_has_a_verdict(shape, percent, verdict, make_plan, make_row):
    factors, seeds = shape
    plan = make_plan(factors=factors, seeds=seeds, published="")
    record = StudyRecord(tuple(make_row(cell, percent(cell.factors["k"], cell.seed)) for cell in plan.cells))
    result = analyse(plan, record)
    document = trained_document(result)
    assert document.verdict.startswith(verdict)
    texts = terminal.render(document), markdown.render(document, "", []), csv.table_csv(document.table)
    assert not re.search(r"\b(nan|inf)\b", "\n".join([*texts, latex.render(document)]))
    if seeds == 3 and factors == (THREE,):
        assert draw(result).png
