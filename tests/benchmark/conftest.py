"""A cell that trains in a fraction of a second."""

import pytest

from mobileone_core.data.spec import DataSpec
from mobileone_core.model.spec import ModelSpec
from mobileone_core.training.cell import CellSpec
from mobileone_core.training.recipe import Recipe

MODEL = ModelSpec(widths=(8, 12), depths=(1, 1), k=2, stage_strides=(2, 2), in_channels=1)
RECIPE = Recipe(
    epochs=2,
    batch_size=256,
    warmup_epochs=0.5,
    nesterov=True,
    label_smoothing=0.1,
    ema_decay=0.5,
    augmentation="crop",
)
CELL = CellSpec(MODEL, DataSpec(image_size=16), RECIPE)


@pytest.fixture
def cell():
    """A cell of 4 steps an epoch."""
    return CELL
