"""The cell that trains a teacher, and the name of a file of weights."""

import hashlib
from dataclasses import replace

import pytest

from mobileone_core.data.spec import DataSpec
from mobileone_core.errors import InputError
from mobileone_core.model.spec import ModelSpec
from mobileone_core.training.cell import CellSpec, teacher_cell
from mobileone_core.training.recipe import Teacher, weights_digest
from mobileone_core.training.recipe_presets import recipe_preset

RECIPE = replace(
    recipe_preset("digits"), teachers=(Teacher("small"), Teacher("s0")), temperature=2.0, hard_label_weight=0.0
)
STUDENT = CellSpec(ModelSpec.preset("tiny", k=2, in_channels=1), DataSpec(), RECIPE, seed=3)


@pytest.mark.parametrize("variant", ["small", "s0"])
def test_a_teacher_is_a_plain_cell_of_the_students_data_seed_and_recipe(variant):
    expected = CellSpec(
        ModelSpec.preset(variant, in_channels=1).fitted_to(32), DataSpec(), recipe_preset("digits"), seed=3
    )
    assert teacher_cell(STUDENT, Teacher(variant)) == expected


def test_students_of_one_seed_share_their_teacher():
    other = replace(STUDENT, model=STUDENT.model.changed(k=4), recipe=replace(RECIPE, temperature=1.0))
    assert teacher_cell(STUDENT, Teacher("small")).key == teacher_cell(other, Teacher("small")).key
    reseeded = replace(STUDENT, seed=4)
    assert teacher_cell(STUDENT, Teacher("small")).key != teacher_cell(reseeded, Teacher("small")).key


@pytest.mark.parametrize("network", ["s0", "timm:resnet18"])
def test_a_teacher_with_weights_is_not_trained(network):
    with pytest.raises(InputError, match=f"teachers: '{network}' is not allowed; its weights come from a file"):
        teacher_cell(STUDENT, Teacher(network, "0123456789abcdef"))


def test_a_file_is_named_by_its_content(tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(b"weights" * 99_999)
    assert weights_digest(path) == hashlib.sha256(path.read_bytes()).hexdigest()[:16]
