"""The lines of a plan about its setting."""

from dataclasses import replace

import pytest

from mobileone_core.data.spec import DataSpec
from mobileone_core.study.declaration import Factor, Study
from mobileone_core.study.factor import field_text
from mobileone_core.study.grid import GridPlan
from mobileone_core.study.presets import preset_cell
from mobileone_core.study.run.progress import plan_lines
from mobileone_core.training.recipe import Teacher, paper_phases

K = Factor("k", "model.k", (1, 2), 1)
USUAL = "tiny on digits at 32 px; recipe digits: 12 epochs, batch 64, sgd lr 0.3"


def setting(recipe=None, model=None, data=None, **study):
    """The line of a plan that names its setting."""
    declared = Study("study", "?", study.pop("factors", (K,)), **study)
    cell = preset_cell("tiny", data or DataSpec(), "digits", declared.base)
    changed = replace(cell, recipe=cell.recipe.changed(**(recipe or {})), model=cell.model.changed(**(model or {})))
    return plan_lines(GridPlan(declared, changed), [])[1]


def test_usual_settings_need_no_more_words():
    assert setting() == USUAL


def test_what_the_line_has_anyway_is_not_said_twice():
    changes = {"epochs": 3, "batch_size": 32, "optimizer": "adamw", "lr": 0.01, "nesterov": False}
    line = setting(changes, data=DataSpec(image_size=24))
    assert line == "tiny on digits at 24 px; recipe digits: 3 epochs, batch 32, adamw lr 0.01; nesterov off"


def test_teachers_and_phases_of_a_study_are_named_though_they_are_no_change():
    base = {"recipe.teachers": ("larger",), "recipe.phases": "paper"}
    assert setting(base=base) == f"{USUAL}; teacher small; phases 24, 28, 32 px"
    none = {"teachers": (), "phases": ()}
    assert setting(none, base=base) == f"{USUAL}; no progressive learning; no teacher"


def test_what_every_level_sets_is_not_the_settings():
    settings = {"off": {"recipe.phases": ()}, "none": {"recipe.phases": (), "recipe.lr": 0.1}}
    factor = Factor("phases", settings=settings, baseline="off")
    assert setting({"phases": paper_phases(32)}, factors=(factor,)) == USUAL


def test_changes_are_named_in_words():
    line = setting(
        {"teachers": (Teacher("timm:resnet18", "a5b2eee6b424e9bd"), Teacher("s0")), "weight_decay_end": None},
        {"se": (0, 0, 1, 1)},
    )
    teachers = "teachers timm:resnet18 (weights a5b2eee6b424e9bd), s0"
    assert sorted(line.removeprefix(f"{USUAL}; ").split("; ")) == ["constant weight decay", "se 0,0,1,1", teachers]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("widths", (16, 32), "widths 16,32"),
        ("reparam", False, "reparam off"),
        ("image_size", 24, "24 px"),
        ("teachers", (Teacher("small"),), "teacher small"),
        ("teachers", (Teacher("small", "a5b2eee6b424e9bd"),), "teacher small (weights a5b2eee6b424e9bd)"),
        ("phases", paper_phases(32), "progressive learning 24, 28, 32 px with AutoAugment 0.3, 0.7, 1.0"),
        ("weight_decay_end", 1e-5, "weight decay annealed to 1e-05"),
        ("warmup_epochs", 5 / 18, "warmup_epochs 0.277778"),
        ("ema_decay", 0.0, "last weights"),
    ],
)
def test_fields_in_words(name, value, words):
    assert field_text(name, value) == words
