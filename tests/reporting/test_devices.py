"""Latencies on devices as CSV and as columns; all numbers are artificial."""

import dataclasses

import pytest

from mobileone_core.errors import InputError
from mobileone_core.reporting.devices import device_columns, devices_text, read_devices_csv
from mobileone_core.study.rows import DeviceRow

ROW = DeviceRow(
    model="mobileone_s0",
    model_hash="a" * 64,
    device="Testphone, 1",
    os="iOS 99.0",
    compute_units="all",
    protocol="other:test",
    statistics={"median": 1.1, "min": 1 / 3},
    n=3,
    run_id="run1",
    source="imported",
    date="2026-01-01",
    precision="float16",
)


def changed(**fields):
    return dataclasses.replace(ROW, **fields)


def test_csv_comes_back_whole_and_its_bytes_do_not_depend_on_order():
    rows = [ROW, changed(run_id="run2", device="=1+1", statistics={"low": 2.0, "average": 3.0})]
    text = devices_text(rows)
    assert text == devices_text(rows[::-1])
    assert sorted(read_devices_csv(text), key=lambda row: row.run_id) == rows
    assert devices_text(read_devices_csv(text)) == text
    assert "host" not in text.splitlines()[0]


def test_csv_of_nothing():
    assert read_devices_csv(devices_text([])) == ()


@pytest.mark.parametrize("change", [("model,", "network,"), (",3,", ",three,"), ("1.1", "fast")])
def test_csv_that_was_not_written_so_is_refused(change):
    text = devices_text([ROW])
    assert change[0] in text
    with pytest.raises(InputError):
        read_devices_csv(text.replace(*change))


def test_two_protocols_never_share_a_column():
    rows = [ROW, changed(run_id="run2", model="mobileone_s1", protocol="modelbench")]
    columns = device_columns(rows, ["mobileone_s0", "mobileone_s1"])
    assert len(columns) == 4
    assert [cells.count("not measured") for cells in columns.values()] == [1, 1, 1, 1]
    assert {column.note for column in columns} == {"protocol other:test", "protocol modelbench"}


@pytest.mark.parametrize("field", ["device", "os", "compute_units", "protocol", "form", "precision", "input"])
def test_what_differs_in_how_it_was_measured_has_a_column_of_its_own(field):
    rows = [changed(statistics={"median": 1.0}), changed(statistics={"median": 2.0}, run_id="run2", **{field: "else"})]
    columns = device_columns(rows, ["mobileone_s0"])
    assert sorted(columns.values()) == [("1.00",), ("2.00",)]
    assert len(columns) == 2


def test_statistics_stand_apart_and_several_runs_are_all_shown():
    rows = [ROW, changed(run_id="run2", date="2026-01-02", statistics={"median": 5.0})]
    found = {column.head.rpartition(": ")[2]: cells for column, cells in device_columns(rows, ["mobileone_s0"]).items()}
    assert found["median, ms"] == ("1.10 / 5.00",)
    assert found["min, ms"] == ("0.333",)


def test_other_models_make_no_columns_and_coarse_numbers_say_so():
    assert len(device_columns([changed(model="other")], ["mobileone_s0"])) == 0
    [column] = device_columns([changed(protocol="remote-device", statistics={"min": 1.0})], ["mobileone_s0"])
    assert "coarse" in column.note
