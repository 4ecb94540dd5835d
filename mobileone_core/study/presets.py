"""Where a study's cells start from: a variant, a recipe by name, and what the study changes in both."""

from collections.abc import Mapping
from typing import Any, Literal

from mobileone_core.data.spec import DataSpec
from mobileone_core.errors import require
from mobileone_core.model.spec import ModelSpec
from mobileone_core.training.cell import CellSpec
from mobileone_core.training.recipe import Phase, Teacher, paper_phases, recipe_preset

Phases = Literal["none", "paper"]
LARGER = {"tiny": "small", "small": "s0", "s0": "s1", "s1": "s2", "s2": "s3", "s3": "s4"}


def preset_cell(variant: str, data: DataSpec, recipe: str, base: Mapping[str, Any] | None = None) -> CellSpec:
    """A cell of presets: a variant fitted to the data's images, a recipe by name, and a study's own base."""
    model = ModelSpec.preset(variant, in_channels=data.channels).fitted_to(data.image_size)
    spec = CellSpec(model, data, recipe_preset(recipe, variant, data.image_size))
    changes = dict(base or {})
    if "recipe.phases" in changes:
        changes["recipe.phases"] = phases_named(changes["recipe.phases"], data.image_size)
    if "recipe.teachers" in changes:
        changes["recipe.teachers"] = tuple(Teacher(larger(variant, name)) for name in changes["recipe.teachers"])
    return spec.changed(changes)


def phases_named(name: Phases, image_size: int) -> tuple[Phase, ...]:
    """Progressive learning by name: the paper's phases at a resolution, or none."""
    require(name in ("none", "paper"), "phases", name, "none or paper")
    return paper_phases(image_size) if name == "paper" else ()


def larger(variant: str, name: str) -> str:
    """A teacher's network; "larger" is the next larger variant, and s4's its own kind."""
    return LARGER.get(variant, variant) if name == "larger" else name
