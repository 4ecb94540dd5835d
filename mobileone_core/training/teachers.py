"""The cells that train teachers, and the names of their files. No torch here."""

import hashlib
from dataclasses import replace
from pathlib import Path

from mobileone_core.errors import require
from mobileone_core.model.spec import PRESETS, ModelSpec
from mobileone_core.training.cell import CellSpec
from mobileone_core.training.recipe import Teacher


def teacher_cell(student: CellSpec, teacher: Teacher) -> CellSpec:
    """The cell to run before a student: its teacher, on the same data and seed, by its recipe without teachers."""
    require(not teacher.weights, "teachers", teacher.network, "its weights come from a file: there is nothing to train")
    return replace(student, model=teacher_model(student, teacher), recipe=student.recipe.changed(teachers=()))


def teacher_model(student: CellSpec, teacher: Teacher) -> ModelSpec:
    """The network of a teacher that is a variant, fitted to the student's images."""
    require(teacher.network in PRESETS, "teachers", teacher.network, f"one of {', '.join(PRESETS)}")
    return ModelSpec.preset(teacher.network, in_channels=student.data.channels).fitted_to(student.data.image_size)


def weights_digest(path: Path) -> str:
    """A file's name in Teacher.weights: the first 16 hex digits of its SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
