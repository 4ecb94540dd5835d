"""The published numbers are those of the paper, and stay missing where nothing was published."""

import runpy
from pathlib import Path

import pytest

from mobileone_core.errors import InputError
from mobileone_core.reporting import published
from mobileone_core.reporting.measured.table9 import paper_name
from mobileone_core.reporting.published import CAVEATS, LONG_FORMS, published_values, read_published
from mobileone_core.study.factor import level_label
from mobileone_core.study.measured import MeasuredStudy

TABLE_6 = {"s0": ("70.9", "70.7", "71.3", "71.4", "71.1"), "s1": ("75.9", "75.7", "75.6", "75.6", "75.2")}


def test_table_6_in_long_form():
    values = published_values("table6_branch_count_top1")
    found = [(value.variant, value.level, value.printed) for value in values]
    expected = [(variant, str(k), text) for variant, row in TABLE_6.items() for k, text in enumerate(row, start=1)]
    assert found == expected
    assert {(value.unit, value.source) for value in values} == {("%", "table 6, published")}
    assert [value.value for value in values] == [float(text) for row in TABLE_6.values() for text in row]


def printed_values(name):
    """Variant, level and digits of every value, without what they are."""
    return {(value.variant, value.level): value.printed for value in published_values(name)}


def test_table_4_has_each_method_on_its_networks():
    values = published_values("table4_overparam_methods")
    assert {(value.what.partition(",")[0], value.level): value.printed for value in values} == {
        ("MobileNetV1", "expandnet"): "69.4", ("MobileNetV1", "acnet"): "72.1", ("MobileNetV1", "dbb"): "72.9",
        ("ResNet18", "acnet"): "71.1", ("ResNet18", "dbb"): "71.0", ("RepVGG-A0", "repvgg"): "72.4",
        ("MobileOne-S0", "mobileone"): "71.4", ("MobileOne-S1", "mobileone"): "75.9",
    }  # fmt: skip
    assert values[0].column == ("published MobileNetV1, 4.2 M parameters", "%")


def test_table_5_has_each_variant_at_its_own_k():
    """S0 has k = 4 in table 7, S1 and S3 have k = 1; S2 and S4 were not printed."""
    assert printed_values("table5_reparam_branches_top1") == {
        ("s0", "none"): "69.6", ("s1", "none"): "74.6", ("s3", "none"): "77.2",
        ("s0", "4"): "71.4", ("s1", "1"): "75.9", ("s3", "1"): "78.1",
    }  # fmt: skip


def test_table_8_has_gains_in_points_and_one_value():
    values = published_values("table8_training_settings_s2_top1")
    gain = "gain over the previous row of table 8"
    assert [(value.level, value.value, value.unit, value.printed, value.what) for value in values] == [
        ("progressive = on, annealing = off, ema = off", 0.4, "points", "+0.4", gain),
        ("progressive = on, annealing = on, ema = off", 0.5, "points", "+0.5", gain),
        ("progressive = on, annealing = on, ema = on", 77.4, "%", "77.4", ""),
    ]
    assert [value.column for value in values][1:] == [(f"published {gain}, S2", "points"), ("published S2", "%")]


def test_table_10_has_mobileone_alone():
    assert printed_values("table10_distillation_top1") == {
        ("s0", "off"): "71.4", ("s0", "on"): "72.5", ("s1", "off"): "75.9", ("s1", "on"): "77.4",
        ("s2", "off"): "77.4", ("s2", "on"): "79.1", ("s3", "off"): "78.1", ("s3", "on"): "80.0",
        ("s4", "off"): "79.4", ("s4", "on"): "81.4",
    }  # fmt: skip


@pytest.mark.parametrize("name", sorted(LONG_FORMS))
def test_every_table_beside_ours_says_how_sure_it_is(name):
    assert CAVEATS[name].endswith(".")
    assert CAVEATS.keys() == {*LONG_FORMS, "table9_imagenet"}
    table = name.removeprefix("table").partition("_")[0]
    assert {value.source for value in published_values(name)} == {f"table {table}, published"}


# Tables of more networks than a default study has; --networks and --backbone ask for others.
OF_MANY_NETWORKS = ("table9_imagenet", "table11a_coco_ssdlite_map", "table11b_deeplabv3_miou")


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[2] / "studies").glob("*.py")), ids=lambda path: path.stem
)
def test_every_published_value_has_its_level_in_the_study(path):
    study = runpy.run_path(str(path))["STUDY"]
    arms = {level_label(arm) for arm in study.settings}
    if isinstance(study, MeasuredStudy):  # a published network stands in no runtime of ours
        arms = {level for factor in study.factors for level in factor.levels}
        arms |= {paper_name(str(level)) for level in arms}
    if study.published not in OF_MANY_NETWORKS:
        assert {value.level for value in published_values(study.published)} <= arms


@pytest.mark.parametrize("name", sorted(published.SHIPPED))
def test_every_table_is_as_shipped(name):
    rows = read_published(name)
    assert rows
    assert all(len(row) == len(rows[0]) and None not in row for row in rows)


def test_counts_are_integers():
    assert {row["variant"]: row["deployed_macs_224"] for row in read_published("cost")} == {
        "s0": "275110400", "s1": "825057024", "s2": "1298426496", "s3": "1895790592", "s4": "2979269760"
    }  # fmt: skip


def test_what_was_not_published_stays_missing():
    by_model = {row["model"]: row for row in read_published("table9_imagenet")}
    assert len(by_model) == 30
    assert by_model["DeiT-tiny"]["gpu_ms"] == "1.78"
    assert by_model["MobileViT-S"]["gpu_ms"] is None


def test_changed_file_is_refused(monkeypatch):
    monkeypatch.setitem(published.SHIPPED, "cost", "0" * 16)
    with pytest.raises(InputError, match=r"published/cost.csv: not as shipped"):
        read_published("cost")


def test_unknown_names_are_refused():
    with pytest.raises(InputError, match="published: 'table99' is not allowed; one of cost, peers, peers_resnet, "):
        read_published("table99")
    with pytest.raises(InputError, match="published: 'cost' is not allowed; one of table4_overparam_methods, table5"):
        published_values("cost")
    assert published_values("") == ()
