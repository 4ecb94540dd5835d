"""Files from elsewhere, whatever they hold, are read or refused in one short line."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mobileone_core.errors import InputError
from mobileone_core.latency.device_files import read_manifest, read_measurements, read_report

ITEM = {
    "model_hash": "ab" * 32,
    "device": "iPhone 12",
    "os": "iOS 17.4",
    "compute_units": "all",
    "protocol": "modelbench",
    "unit": "ms",
    "n": 3,
    "date": "2026-01-02",
    "statistics": {"median": 1.5},
}
FIELDS = [*ITEM, "samples", "load", "placement", "app", "thermal", "battery"]
in_files = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(10**400)
values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner))


def deep(levels):
    return "[" * levels + "1" + "]" * levels


def refusal_of(path, read, *more):
    """The message, if the file is refused: one line, of ordinary characters and short."""
    message = ""
    try:
        read(path, *more)
    except InputError as error:
        message = str(error)
    assert message.isprintable()
    assert len(message) < 1000
    return message


@in_files
@given(st.dictionaries(st.sampled_from(FIELDS), values, max_size=4), st.sampled_from([1, 10**400, None, "1"]))
def test_any_field_of_json(tmp_path, changes, schema):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"schema": schema, "measurements": [{**ITEM, **changes}]}), encoding="utf-8")
    message = refusal_of(path, read_measurements, {})
    assert message.startswith("a.json") or (schema == 1 and not message)


@in_files
@given(st.lists(st.lists(st.text(max_size=6) | st.sampled_from([*FIELDS, "schema", "1", "9" * 5000]), max_size=5)))
def test_any_csv(tmp_path, lines):
    (tmp_path / "a.csv").write_text("\n".join(map(",".join, lines)), encoding="utf-8", errors="replace")
    assert refusal_of(tmp_path / "a.csv", read_measurements, {})


@in_files
@given(values)
def test_any_manifest_and_report(tmp_path, content):
    (tmp_path / "a.mlperf").mkdir(exist_ok=True)
    for path, read in ((tmp_path / "a.json", read_manifest), (tmp_path / "a.mlperf" / "report.json", read_report)):
        path.write_text(json.dumps(content), encoding="utf-8")
        refusal_of(path if read is read_manifest else path.parent, read)


@pytest.mark.parametrize("levels", [500, 990, 100_000])
@pytest.mark.parametrize("name", ["samples", "placement", "protocol", "unit", "date", "n", "statistics", "app"])
def test_nested_json(tmp_path, name, levels):
    path = tmp_path / "a.json"
    others = json.dumps({key: value for key, value in ITEM.items() if key != name})
    path.write_text(f'{{"schema": 1, "measurements": [{others[:-1]}, "{name}": {deep(levels)}}}]}}')
    assert refusal_of(path, read_measurements, {})
    path.write_text(deep(levels))
    assert refusal_of(path, read_measurements, {})
    assert refusal_of(path, read_manifest)
    (tmp_path / "a.mlperf").mkdir()
    (tmp_path / "a.mlperf" / "report.json").write_text(deep(levels))
    assert refusal_of(tmp_path / "a.mlperf", read_report) or levels < 990


@pytest.mark.parametrize("digits", [20, 400, 6000])
@pytest.mark.parametrize("name", ["samples", "n", "placement", "date", "schema", "load", "statistics"])
def test_integers_of_many_digits(tmp_path, name, digits):
    number = "9" * digits
    shaped = {"samples": f"[{number}]", "placement": f'{{"CPU": {number}}}', "statistics": f'{{"min": {number}}}'}
    others = json.dumps({key: value for key, value in ITEM.items() if key != name})[:-1]
    schema = number if name == "schema" else "1"
    (tmp_path / "a.json").write_text(
        f'{{"schema": {schema}, "measurements": [{others}, "{name}": {shaped.get(name, number)}}}]}}'
    )
    assert refusal_of(tmp_path / "a.json", read_measurements, {})


@pytest.mark.parametrize("name", ["\x1f", "mode\u202e"])
def test_a_statistic_s_name_is_checked_before_its_value(tmp_path, name):
    (tmp_path / "a.json").write_text(json.dumps({"schema": 1, "measurements": [{**ITEM, "statistics": {name: None}}]}))
    assert "statistics: " in refusal_of(tmp_path / "a.json", read_measurements, {})


@pytest.mark.parametrize("text", ["=1+1", "+cmd|x", "-2", "@sum", "\x1b[31m", "a\tb", "a\u202eb", "", " x", "a" * 201])
@pytest.mark.parametrize("name", ["device", "os", "app", "thermal", "battery", "title"])
def test_texts_that_a_table_or_a_spreadsheet_would_run(tmp_path, name, text):
    path = tmp_path / "a.json"
    if name == "title":
        path.write_text(json.dumps({"title": text or " ", "hash": "ab" * 32}), encoding="utf-8")
        assert "printable" in refusal_of(path, read_manifest)
        return
    path.write_text(json.dumps({"schema": 1, "measurements": [{**ITEM, name: text}]}), encoding="utf-8")
    is_left_out = text == "" and name not in ("device", "os")
    assert ("printable" in refusal_of(path, read_measurements, {})) != is_left_out
