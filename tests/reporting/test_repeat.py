"""The command that a report prints plans the same cells."""

import shlex
from dataclasses import replace

import pytest

from mobileone_core.cli.options.study import parse
from mobileone_core.reporting.report import document_of, report_name
from mobileone_core.reporting.trained.kind import command
from mobileone_core.study.declaration import Factor, Study
from mobileone_core.study.rows import CellRow, StudyRecord

K = Factor("k", "model.k", levels=(1, 2, 4), baseline=1)
SE = Factor("se", "model.se", levels=("none", (0, 0, 1, 1)), baseline="none")
EMA = Factor("ema", settings={"off": {"recipe.ema_decay": 0.0}, "as is": {}}, baseline="off")
STUDIES = [
    Study("one", "Does it?", (K,)),
    Study("several", "Does it?", (SE, EMA), base={"recipe.teachers": ("larger",)}),
]


@pytest.fixture(params=STUDIES, ids=lambda study: study.name)
def study(request):
    return request.param


@pytest.mark.parametrize("options", ["", "--seeds 3 --first-seed 2"])
def test_the_command_of_a_page_plans_its_cells(study, options, tmp_path):
    line = f"--data fashion_mnist --data-root {tmp_path} {options}".split()
    plan = parse(study, line).request.plan
    assert report_name(plan) == f"{study.name}-fashion_mnist"
    words = [word.replace("DIR", str(tmp_path)) for word in shlex.split(command(plan))]
    assert words[:2] == ["python", f"studies/{study.name}.py"]
    assert parse(study, words[2:]).request.plan.to_json() == plan.to_json()


def test_the_page_says_what_it_cost(study, tmp_path):
    plan = parse(study, ["--data", "fashion_mnist", "--data-root", str(tmp_path)]).request.plan
    rows = [
        CellRow(
            cell.key,
            cell.seed,
            cell.factors,
            f"run{number}",
            {"test/top1": 0.9, "time/train_seconds": 90.0},
            {"threads": "1"},
        )
        for number, cell in enumerate((*plan.teachers, *plan.cells))
    ]
    [section] = [
        item for item in document_of(plan, StudyRecord(tuple(rows))).sections if item.heading == "Repeating it"
    ]
    text = " ".join(block.text for block in section.blocks)
    assert f"{len(rows)} cells" in text
    assert f"{len(rows) * 90 / 3600:.1f} hours" in text
    assert "(90 s per cell) with 1 thread each" in text
    assert command(plan) in text


def test_other_settings_have_no_such_section(study):
    plan = parse(study, ["--seeds", "2"]).request.plan
    assert not plan.follows_data
    [section] = [item for item in document_of(plan, StudyRecord()).sections if item.heading == "Repeating it"]
    assert not section.blocks


def test_a_changed_field_or_variant_is_another_setting(study, tmp_path):
    data = ["--data", "fashion_mnist", "--data-root", str(tmp_path)]
    for options in (["--lr", "0.05"], ["--variant", "tiny"], ["--recipe", "digits"], ["--image-size", "32"]):
        plan = parse(study, [*data, *options]).request.plan
        assert report_name(plan).endswith(plan.id)
    assert not replace(plan, study=replace(plan.study, data="digits")).follows_data
