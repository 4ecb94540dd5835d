import pytest

from mobileone_core.errors import InputError
from mobileone_core.model.spec import ACTIVATIONS, PRESETS, BlockSpec, ModelSpec
from mobileone_core.model.weights import require_representable

BAD = [
    ({"k": 0}, "k: 0 is not allowed; an integer from 1 to 16"),
    ({"k": 17}, "k: 17 is not allowed; an integer from 1 to 16"),
    ({"k": 2.0}, "k: 2.0 is not allowed; an integer from 1 to 16"),
    ({"k": True}, "k: True is not allowed; an integer from 1 to 16"),
    ({"stem_k": 0}, "stem_k: 0 is not allowed; an integer from 1 to 16"),
    ({"reparam": False, "k": 4}, "k: 4 is not allowed; without re-parameterization (reparam=False) it is 1"),
    ({"reparam": False, "stem_k": 2}, "stem_k: 2 is not allowed; without re-parameterization (reparam=False) it is 1"),
    ({"block_method": "acnet", "k": 4}, "k: 4 is not allowed; with block_method acnet it is 1"),
    ({"block_method": "repvgg", "stem_k": 2}, "stem_k: 2 is not allowed; with block_method repvgg it is 1"),
    ({"block_method": "DBB"}, "block_method: 'DBB' is not allowed; one of mobileone, repvgg, acnet, dbb, expandnet"),
    (
        {"block_method": "dbb", "reparam": False},
        "block_method: 'dbb' is not allowed; without re-parameterization it is",
    ),
    ({"reparam": "no"}, "reparam: 'no' is not allowed; True or False"),
    ({"activation": "tanh"}, f"activation: 'tanh' is not allowed; one of {', '.join(ACTIVATIONS)}"),
    ({"widths": (8, 0, 8, 8)}, "widths: (8, 0, 8, 8) is not allowed; a tuple of integers of 1 or more, one per stage"),
    ({"widths": 8}, "widths: 8 is not allowed; a tuple of integers of 1 or more, one per stage"),
    ({"widths": ()}, "widths: () is not allowed; a tuple of integers of 1 or more, one per stage"),
    ({"depths": "2, 8"}, "depths: '2, 8' is not allowed; a tuple of integers of 1 or more, one per stage"),
    ({"depths": (2, 8)}, "depths: (2, 8) is not allowed; as many integers as widths: 4"),
    ({"stage_strides": (2, 2, 2)}, "stage_strides: (2, 2, 2) is not allowed; as many integers as widths: 4"),
    ({"stem_stride": 0}, "stem_stride: 0 is not allowed; an integer of 1 or more"),
    ({"in_channels": -3}, "in_channels: -3 is not allowed; an integer of 1 or more"),
    ({"se": "some"}, "se: 'some' is not allowed; 'none', 'all', 'paper'"),
    ({"se": (0, 0, 11, 0)}, "se: (0, 0, 11, 0) is not allowed; 'none', 'all', 'paper'"),
    ({"se": (0, 0, -1, 0)}, "se: (0, 0, -1, 0) is not allowed; 'none', 'all', 'paper'"),
    ({"se": (1, 1)}, "se: (1, 1) is not allowed; 'none', 'all', 'paper'"),
    ({"se": None}, "se: None is not allowed; 'none', 'all', 'paper'"),
]


@pytest.mark.parametrize(("fields", "message"), BAD, ids=[str(fields) for fields, _ in BAD])
def test_a_bad_field_is_named_with_its_value_and_what_is_allowed(fields, message):
    with pytest.raises(InputError) as error:
        ModelSpec(**fields)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_methods_without_k_imply_k_1():
    for method in ("repvgg", "acnet", "dbb"):
        spec = ModelSpec.preset("s0", stem_k=2).changed(block_method=method)
        assert (spec.k, spec.stem_k, spec.block_method) == (1, 1, method)
    expandnet = ModelSpec.preset("s0", block_method="expandnet")
    assert expandnet.k == 4
    assert expandnet.changed(reparam=False) == ModelSpec.preset("s0", reparam=False)


def test_paper_placement_of_se_needs_four_stages():
    three = {"widths": (8, 8, 8), "depths": (1, 1, 1), "stage_strides": (2, 2, 2)}
    with pytest.raises(ValueError, match="se: 'paper' is not allowed"):
        ModelSpec(**three, se="paper")
    assert ModelSpec(**three, se=(1, 0, 1)).se_blocks == (1, 0, 1)


@pytest.mark.parametrize("stages", [4, 2])
def test_se_everywhere(stages):
    shape = {"widths": (8, 16, 8, 8), "depths": (1, 3, 2, 1), "stage_strides": (2, 2, 2, 1)}
    spec = ModelSpec(**{name: value[:stages] for name, value in shape.items()}, se="all")
    assert spec.se_blocks == spec.depths
    assert all(block.se for stage in spec.stages() for block in stage)
    assert not spec.stem().se


@pytest.mark.parametrize("deployed", [False, True])
def test_the_authors_layout_has_no_place_for_se_everywhere(deployed):
    spec = ModelSpec.preset("s0", se="all")
    require_representable(spec, deployed, "timm")
    with pytest.raises(InputError, match="se: 'all' is not allowed; the apple layout needs 'none' or 'paper'"):
        require_representable(spec, deployed, "apple")


def test_small_is_tiny_twice_as_wide():
    tiny, small = ModelSpec.preset("tiny", k=1), ModelSpec.preset("small")
    assert small == tiny.changed(widths=tuple(2 * width for width in tiny.widths))


def test_preset_takes_a_variant_and_what_differs():
    spec = ModelSpec.preset("s0", k=1, activation="gelu")
    assert (spec.widths, spec.k, spec.activation) == (PRESETS["s0"].widths, 1, "gelu")
    assert ModelSpec.preset("s0") == PRESETS["s0"]


def test_preset_refuses_unknown_names():
    with pytest.raises(InputError, match="variant: 's5' is not allowed; one of s0, s1, s2, s3, s4, tiny, small"):
        ModelSpec.preset("s5")
    with pytest.raises(InputError, match="field: 'kk' is not allowed; one of widths, depths, k"):
        ModelSpec.preset("s0", kk=3)


def test_reparam_off_brings_k_1_with_it_unless_k_is_asked_for():
    assert ModelSpec.preset("s0", reparam=False).k == 1
    with pytest.raises(InputError, match=r"k: 4 is not allowed; without re-parameterization"):
        ModelSpec.preset("s0", reparam=False, k=4)


def test_s4_has_se_where_the_released_code_has_it():
    placed = [[block.se for block in stage] for stage in ModelSpec.preset("s4").stages()]
    assert placed == [[False] * 4, [False] * 16, [False] * 10 + [True] * 10, [True] * 2]


def test_blocks_follow_the_released_layout():
    spec = ModelSpec.preset("s1")
    stem, first = spec.stem(), next(spec.stages())
    assert (stem.in_channels, stem.out_channels, stem.stride, stem.groups, stem.k) == (3, 64, 2, 1, 1)
    assert (stem.scale, stem.skip) == (True, False)
    shapes = [(b.in_channels, b.out_channels, b.kernel_size, b.stride, b.groups, b.scale, b.skip) for b in first]
    assert shapes == [
        (64, 64, 3, 2, 64, True, False),
        (64, 96, 1, 1, 1, False, False),
        (96, 96, 3, 1, 96, True, True),
        (96, 96, 1, 1, 1, False, True),
    ]


def test_output_stride_dilates_the_stages_beyond_it():
    specs = {stride: ModelSpec.preset("s0", output_stride=stride) for stride in (32, 16, 8)}
    shapes = {
        stride: [[(block.stride, block.dilation) for block in stage[::2]] for stage in spec.stages()]
        for stride, spec in specs.items()
    }
    plain = [(2, 1), (1, 1)], [(2, 1), *[(1, 1)] * 7]
    skips = [[block.skip for stage in spec.stages() for block in stage] for spec in specs.values()]
    assert skips[0] == skips[1] == skips[2]  # so that weights fit
    assert shapes[32] == [*plain, [(2, 1), *[(1, 1)] * 9], [(2, 1)]]
    assert shapes[16] == [*plain, [(2, 1), *[(1, 1)] * 9], [(1, 1)]]
    assert shapes[8] == [*plain, [(1, 1), *[(1, 2)] * 9], [(1, 2)]]
    assert [spec.feature_strides for spec in specs.values()] == [(2, 4, 8, 16, 32), (2, 4, 8, 16, 16), (2, 4, 8, 8, 8)]
    assert all(block.dilation == 1 for stage in specs[8].stages() for block in stage[1::2])
    assert ModelSpec.preset("tiny", output_stride=8) == ModelSpec.preset("tiny").changed(output_stride=8)


def test_all_strides_stay_by_default():
    spec = ModelSpec.preset("tiny", stem_stride=4, stage_strides=(4, 4, 2, 2))
    assert spec.reduction == 256


@pytest.mark.parametrize("value", [2, 64, 12, True, "16", None])
def test_other_output_strides_are_refused(value):
    with pytest.raises(InputError, match="output_stride"):
        ModelSpec(output_stride=value)


def test_an_even_kernel_is_refused():
    with pytest.raises(InputError, match="kernel_size: 4 is not allowed; an odd integer"):
        BlockSpec(8, 8, 4, 1, 1, 1, reparam=True, se=False)


@pytest.mark.parametrize(
    ("variant", "image_size", "reduction"),
    [("s0", 224, 32), ("s0", 65, 32), ("s0", 64, 32), ("s0", 33, 32), ("s0", 32, 8), ("tiny", 32, 8), ("tiny", 8, 4)],
)
def test_fitted_to_keeps_cifar_strides_for_images_that_would_vanish(variant, image_size, reduction):
    assert ModelSpec.preset(variant).fitted_to(image_size).reduction == reduction


def test_fitted_to_refuses_an_impossible_size():
    with pytest.raises(InputError, match="image_size: 0 is not allowed"):
        ModelSpec.preset("s0").fitted_to(0)
