"""A cell's key and its text: pinned, and indifferent to what does not matter."""

import dataclasses
import json
from dataclasses import dataclass, make_dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobileone_core.data.spec import DataSpec
from mobileone_core.errors import InputError
from mobileone_core.model.spec import ACTIVATIONS, ModelSpec
from mobileone_core.study.factor import Factor
from mobileone_core.training.cell import CellSpec
from mobileone_core.training.recipe import Phase, Recipe, Teacher
from mobileone_core.training.recipe_presets import recipe_preset

UNCLIPPED = replace(recipe_preset("digits"), clip_norm=0.0)  # as the pinned records have it
DIGITS = CellSpec(ModelSpec.preset("tiny", k=3, in_channels=1), DataSpec(), UNCLIPPED, seed=2)
PAPER = CellSpec(
    ModelSpec.preset("s4", se=(0, 0, 5, 1)),
    DataSpec("imagenet", 224, 1000, 3, 0.01),
    recipe_preset("paper", "s4"),
)
PINNED = [
    (CellSpec(), '{"schema":1}', "67d6291b3014"),
    (CellSpec(seed=7), '{"schema":1,"seed":7}', "138113176795"),
    (
        DIGITS,
        '{"model":{"depths":[1,1,2,1],"in_channels":1,"k":3,"stage_strides":[1,2,2,1],"widths":[16,32,64,128]},'
        '"recipe":{"augmentation":"crop","batch_size":64,"ema_decay":0.95,"epochs":12,"lr":0.3,"nesterov":true,'
        '"warmup_epochs":1.0},"schema":1,"seed":2}',
        "f9378b7e342c",
    ),
    (
        PAPER,
        '{"data":{"channels":3,"image_size":224,"name":"imagenet","num_classes":1000,"val_fraction":0.01},'
        '"model":{"se":[0,0,5,1],"widths":[192,448,896,2048]},'
        '"recipe":{"phases":[{"autoaugment":0.3,"image_size":160,"until":0.13},'
        '{"autoaugment":0.7,"image_size":192,"until":0.38},{"autoaugment":1.0,"image_size":224,"until":1.0}]},'
        '"schema":1}',
        "cfb063bfe490",
    ),
    (
        CellSpec(
            recipe=Recipe(
                teachers=(Teacher("s1"), Teacher("timm:resnet18", "0123456789abcdef")),
                temperature=1,
                hard_label_weight=0,
            )
        ),
        '{"recipe":{"hard_label_weight":0.0,"teachers":[{"network":"s1"},'
        '{"network":"timm:resnet18","weights":"0123456789abcdef"}],"temperature":1.0},"schema":1}',
        "a7cbcd2cc60e",
    ),
]


def numbers(low, high):
    return st.floats(low, high, allow_nan=False).map(lambda value: value + 0.0)


recipes = st.builds(
    Recipe,
    epochs=st.integers(10, 500),
    batch_size=st.integers(1, 4096),
    optimizer=st.just("sgd"),
    lr=numbers(1e-5, 10),
    warmup_epochs=numbers(0, 10) | st.integers(0, 10),
    weight_decay_end=st.none() | numbers(0, 1),
    ema_decay=numbers(0, 0.9999),
    teachers=st.lists(
        st.sampled_from([Teacher("small"), Teacher("s1", "0123456789abcdef"), Teacher("timm:x", "f" * 16)]), unique=True
    ).map(tuple),
    temperature=numbers(0.5, 8) | st.integers(1, 8),
    hard_label_weight=numbers(0, 1) | st.integers(0, 1),
    phases=st.just(()) | st.just((Phase(0.25, 16, 0.5), Phase(1.0, 32, 1.0))),
)
models = st.builds(
    ModelSpec,
    k=st.integers(1, 16),
    activation=st.sampled_from(ACTIVATIONS),
    se=st.sampled_from(["none", "paper", "all", (0, 1, 2, 1)]),
    in_channels=st.integers(1, 4),
)
cells = st.builds(
    CellSpec,
    model=models,
    data=st.builds(DataSpec, image_size=st.integers(8, 256), val_fraction=numbers(0.01, 0.5)),
    recipe=recipes,
    seed=st.integers(0, 2**31),
)


@given(cells)
def test_text_round_trip(cell):
    again = CellSpec.from_json(cell.to_json())
    assert again == cell
    assert again.key == cell.key
    assert len(cell.key) == 12
    assert hash(again) == hash(cell)


@given(cells, cells)
def test_keys_tell_cells_apart(first, second):
    assert (first.key == second.key) == (first == second)


def test_pinned_text_and_keys():
    """A key names records that exist: none of these may ever change without a new schema."""
    for cell, text, key in PINNED:
        assert cell.to_json() == text
        assert cell.key == key


@pytest.mark.parametrize("field", ["warmup_epochs", "weight_decay", "weight_decay_end", "clip_norm", "lr"])
def test_an_integer_for_a_float_is_the_same_cell(field):
    whole, real = (CellSpec(recipe=replace(Recipe(), **{field: value})) for value in (2, 2.0))
    assert whole.key == real.key
    assert whole.to_json() == real.to_json()


def test_an_integer_in_a_phase_is_the_same_cell():
    whole, real = (CellSpec(recipe=Recipe(phases=(Phase(end, 32, end),))) for end in (1, 1.0))
    assert whole.key == real.key


def test_a_new_field_with_a_default_moves_no_key():
    wider = make_dataclass("Recipe", [("mixup", float, dataclasses.field(default=0.0))], bases=(Recipe,), frozen=True)

    @dataclass(frozen=True)
    class WiderCell(CellSpec):
        recipe: wider = dataclasses.field(default_factory=wider)

    WiderCell.__annotations__ = {"recipe": wider}
    for cell, _, key in PINNED:
        recipe = wider(**{item.name: getattr(cell.recipe, item.name) for item in dataclasses.fields(Recipe)})
        assert WiderCell(cell.model, cell.data, recipe, cell.seed).key == key
    assert '"mixup":0.5' in WiderCell(recipe=wider(mixup=0.5)).to_json()


@pytest.mark.parametrize("schema", [0, 2, None])
def test_another_schema_is_refused(schema):
    with pytest.raises(InputError, match=f"schema: {schema} is not allowed; this version reads records of schema 1"):
        CellSpec.from_json(json.dumps({"schema": schema}))


def test_unknown_fields_are_refused():
    with pytest.raises(InputError, match="Recipe: 'mixup' is not allowed"):
        CellSpec.from_json('{"schema":1,"recipe":{"mixup":0.5}}')


@pytest.mark.parametrize("seed", [-1, 0.5, "0"])
@pytest.mark.parametrize("with_seed", [lambda seed: CellSpec(seed=seed), CellSpec(seed=7).with_seed])
def test_refused_seeds(with_seed, seed):
    with pytest.raises(InputError, match="seed"):
        with_seed(seed)


@given(cells, st.integers(0, 2**31).map(lambda seed: np.int64(seed) if seed % 2 else seed))
def test_another_seed(cell, seed):
    other = cell.with_seed(seed)
    assert other == replace(cell, seed=seed)
    assert (other.key, other.to_json()) == (replace(cell, seed=seed).key, replace(cell, seed=seed).to_json())
    assert type(other.seed) is int
    assert cell.with_seed(cell.seed) == cell


def test_numpys_numbers_name_the_same_cell():
    recipe = Recipe(epochs=np.int64(9), lr=np.float32(0.5), phases=(Phase(1.0, np.int32(24), np.float64(0.5)),))
    cell = CellSpec(
        ModelSpec.preset("tiny", k=np.int64(2)), DataSpec(image_size=np.int64(24)), recipe, seed=np.uint8(3)
    )
    again = CellSpec.from_json(cell.to_json())
    assert (again, again.key) == (cell, cell.key)
    plain = Recipe(epochs=9, lr=0.5, phases=(Phase(1.0, 24, 0.5),))
    assert cell.key == CellSpec(ModelSpec.preset("tiny", k=2), DataSpec(image_size=24), plain, seed=3).key
    assert cell.changed({"model.k": np.int64(4)}).key == cell.changed({"model.k": 4}).key


def test_levels_of_numpy_are_plain():
    factor = Factor("k", "model.k", levels=tuple(np.arange(1, 4)), baseline=np.int64(1))
    assert repr(factor.levels) == "(1, 2, 3)"
    assert type(factor.baseline) is int
    switch = Factor("k", settings={"off": {}, "on": {"model.k": np.int64(4)}}, baseline="off")
    assert type(switch.settings["on"]["model.k"]) is int
