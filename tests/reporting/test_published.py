"""The published numbers are those of the paper, and stay missing where nothing was published."""

import pytest

from mobileone_core.errors import InputError
from mobileone_core.reporting import published
from mobileone_core.reporting.published import published_values, read_published

TABLE_6 = {"s0": ("70.9", "70.7", "71.3", "71.4", "71.1"), "s1": ("75.9", "75.7", "75.6", "75.6", "75.2")}


def test_table_6_in_long_form():
    values = published_values("table6_branch_count_top1")
    found = [(value.variant, value.level, value.printed) for value in values]
    assert found == [(variant, k, text) for variant, row in TABLE_6.items() for k, text in enumerate(row, start=1)]
    assert {(value.unit, value.source) for value in values} == {("%", "table 6, published")}
    assert [value.value for value in values] == [float(text) for row in TABLE_6.values() for text in row]


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
    with pytest.raises(InputError, match="published: 'table99' is not allowed; one of cost, table10"):
        read_published("table99")
    with pytest.raises(InputError, match="published: 'cost' is not allowed; one of table6_branch_count_top1"):
        published_values("cost")
    assert published_values("") == ()
