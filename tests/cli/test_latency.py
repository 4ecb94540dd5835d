"""`mobileone latency run|import`. All numbers are plainly artificial: 1.11 ms on a Testphone."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from mlflow import MlflowClient

from mobileone_core.cli import console
from mobileone_core.study.record.access import open_existing, recorded_plans
from mobileone_core.study.record.standalone import read_devices

HASH, OTHER_HASH = "a" * 64, "b" * 64
PROGRAM = "from mobileone_core.cli import console; console()"
ITEM = {
    "model_hash": HASH,
    "device": "Testphone 1",
    "os": "iOS 99.0",
    "compute_units": "all",
    "protocol": "other:test",
    "unit": "ms",
    "n": 3,
    "date": "2026-01-01",
    "samples": [1.11, 2.22, 3.33],
}
BY_HAND = ("--device", "Testphone 1", "--os", "iOS 99.0", "--units", "all")


@pytest.fixture
def manifest(tmp_path):
    path = tmp_path / "manifest.json"
    facts = {"model": "mobileone_s0", "variant": "s0", "form": "deployed", "precision": "float16", "input": "tensor"}
    path.write_text(json.dumps({**facts, "hash": HASH}))
    return path


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A record with one measurement in it."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "manifest.json").write_text(json.dumps({"model": "mobileone_s9", "hash": OTHER_HASH}))
    write(folder / "first.json", [{**ITEM, "model_hash": OTHER_HASH}])
    with pytest.raises(SystemExit) as ended:
        console(["latency", "import", str(folder / "first.json"), *options(folder / "manifest.json", folder)])
    assert ended.value.code == 0
    return folder


def write(path, items, **more):
    path.write_text(json.dumps({"schema": 1, "measurements": items, **more}))
    return path


def options(manifest, runs):
    return ("--manifest", str(manifest), "--runs", str(runs))


def called(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        console(["latency", *map(str, arguments)])
    captured = capsys.readouterr()
    return ended.value.code, captured.out, captured.err


def rows(runs):
    with open_existing(f"sqlite:///{runs / 'mlflow.db'}") as record:
        return read_devices(record, {}) if record else ()


def everything(runs):
    """Status and tags of all runs of the experiment."""
    client = MlflowClient(f"sqlite:///{runs / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("device_latency")
    return {run.info.run_id: (run.info.status, run.data.tags) for run in client.search_runs([experiment.experiment_id])}


def new_row(runs, before):
    """The one row that was not there before."""
    (row,) = set_of(runs) - before
    return next(item for item in rows(runs) if item.run_id == row)


def set_of(runs):
    return {row.run_id for row in rows(runs)}


def test_json_comes_in_as_it_is(manifest, runs, tmp_path, capsys):
    path, before = write(tmp_path / "a.json", [{**ITEM, "thermal": "nominal"}]), set_of(runs)
    code, out, err = called(["import", path, *options(manifest, runs)], capsys)
    assert (code, err) == (0, "")
    row = new_row(runs, before)
    assert row.run_id in out
    assert (row.model, row.variant, row.precision, row.device) == ("mobileone_s0", "s0", "float16", "Testphone 1")
    assert (row.source, row.protocol, row.n, row.date) == ("imported", "other:test", 3, "2026-01-01")
    assert row.statistics == pytest.approx({"min": 1.11, "median": 2.22, "average": 2.22, "p90": 3.108, "max": 3.33})
    client = MlflowClient(f"sqlite:///{runs / 'mlflow.db'}")
    raw = client.download_artifacts(row.run_id, "raw/a.json", str(tmp_path))
    with open(raw, "rb") as kept:  # noqa: PTH123
        assert kept.read() == path.read_bytes()
    assert everything(runs)[row.run_id][1]["thermal"] == "nominal"
    assert recorded_plans(f"sqlite:///{runs / 'mlflow.db'}") == []


def test_csv_says_what_json_says_and_units_are_converted(manifest, runs, tmp_path, capsys):
    head = "schema,model_hash,device,os,compute_units,protocol,unit,n,date,samples,min,average,placement"
    lines = [
        f"1,{HASH},Testphone 1,iOS 99.0,all,other:test,us,3,2026-01-01,1110 2220 3330,,,NeuralEngine=4 CPU=1",
        f"1,{HASH},Testphone 1,iOS 99.0,cpu_only,other:test,s,9,2026-01-01,,0.005,0.006,",
    ]
    path, before = tmp_path / "a.csv", set_of(runs)
    path.write_text("\n".join([head, *lines]) + "\n")
    assert called(["import", path, *options(manifest, runs)], capsys)[0] == 0
    found = {row.compute_units: row for row in rows(runs) if row.run_id not in before}
    assert found["all"].statistics["median"] == pytest.approx(2.22)
    assert found["cpu_only"].statistics == pytest.approx({"min": 5.0, "average": 6.0})
    assert json.loads(everything(runs)[found["all"].run_id][1]["placement"]) == {"NeuralEngine": 4, "CPU": 1}


def test_modelbench_numbers_are_typed_in(manifest, runs, capsys):
    typed, before = ("import", "--modelbench", "--low", "1.11", "--average", "2.22", *BY_HAND), set_of(runs)
    assert called([*typed, *options(manifest, runs)], capsys)[0] == 0
    row = new_row(runs, before)
    assert (row.protocol, row.n, row.statistics) == ("modelbench", 1000, {"low": 1.11, "average": 2.22})
    code, _, err = called([*typed, *options(manifest, runs)], capsys)
    assert (code, "--again" in err) == (2, True)


@pytest.fixture
def report(tmp_path):
    path = tmp_path / "x.mlperf"
    path.mkdir()
    content = {
        "predictionTimes": {"medianMs": 4.44},
        "loadTimes": {"medianMs": 55.5},
        "operations": [{"preferredDevice": "Neural Engine"}, {"preferredDevice": "CPU"}, {"preferredDevice": "CPU"}],
    }
    (path / "report.json").write_text(json.dumps(content))
    return path


def test_xcode_report_is_searched_and_confirmed(report, manifest, runs, capsys):
    given, before = ("import", report, *BY_HAND, "--n", "7", *options(manifest, runs)), set_of(runs)
    code, out, err = called(given, capsys)
    assert (code, set_of(runs)) == (2, before)
    assert "4.44 ms at predictionTimes.medianMs" in out
    assert "--yes" in err
    assert called([*given, "--yes"], capsys)[0] == 0
    row = new_row(runs, before)
    assert (row.protocol, row.statistics, row.n) == ("xcode-report", {"median": 4.44}, 7)
    assert json.loads(everything(runs)[row.run_id][1]["placement"]) == {"NeuralEngine": 1, "CPU": 2}


def test_xcode_report_with_several_medians_is_not_guessed(report, manifest, runs, capsys):
    (report / "report.json").write_text(json.dumps({"predict": [{"median": 4.0}, {"median": 5.0}]}))
    before = set_of(runs)
    given = ("import", report, *BY_HAND, "--n", "7", *options(manifest, runs))
    code, _, err = called([*given, "--yes"], capsys)
    assert (code, "--median-ms" in err) == (2, True)
    assert called([*given, "--median-ms", "4.5"], capsys)[0] == 0
    assert new_row(runs, before).statistics == {"median": 4.5}


def test_the_same_file_twice_is_noticed(manifest, runs, tmp_path, capsys):
    path, before = write(tmp_path / "a.json", [{**ITEM, "device": "Testphone 2"}]), set_of(runs)
    given = ("import", path, *options(manifest, runs))
    assert called(given, capsys)[0] == 0
    first = new_row(runs, before).run_id
    code, _, err = called(given, capsys)
    assert code == 2
    assert first in err
    assert called([*given, "--again"], capsys)[0] == 0
    assert len(set_of(runs) - before) == 2


WRONG = [
    ({"model_hash": "c" * 64}, ("model_hash", "--manifest", "export")),
    ({"model_hash": "abc"}, ("model_hash", "'abc'", "64")),
    ({"device": ""}, ("device",)),
    ({"os": " "}, ("os",)),
    ({"compute_units": "tpu"}, ("compute_units", "'tpu'", "cpu_and_ne")),
    ({"protocol": "mine"}, ("protocol", "'mine'", "other:NAME")),
    ({"unit": "ns"}, ("unit", "'ns'", "us")),
    ({"n": 0}, ("n", "0", "from 1 to")),
    ({"n": 4}, ("n", "4", "number of samples")),
    ({"n": True}, ("n", "True")),
    ({"date": "1.1.2026"}, ("date", "YYYY-MM-DD")),
    ({"date": "2999-01-01"}, ("date", "future")),
    ({"samples": [1.0, -2.0, 3.0]}, ("samples", "-2.0", "above 0")),
    ({"samples": [1.0, "2", 3.0]}, ("samples", "'2'")),
    ({"samples": [1.0, float("nan"), 3.0]}, ("samples", "nan", "finite")),
    ({"samples": []}, ("statistics", "median")),
    ({"statistics": {"median": 9.0}}, ("median", "9.0")),
    ({"samples": [], "statistics": {"min": 2.0, "median": 1.0}}, ("median", "1.0", "no less than min")),
    ({"samples": [], "statistics": {"median": 2.0, "p90": 1.0}}, ("p90", "1.0", "no less than median")),
    ({"samples": [], "statistics": {"mean": 2.0}}, ("statistics", "'mean'", "average")),
    ({"placement": {"CPU": -1}}, ("placement",)),
    ({"placement": {"@": 1}}, ("placement", "'@'")),
    ({"model_hash": 7}, ("model_hash", "7")),
    ({"date": 20260101}, ("date", "20260101")),
    ({"os": "x" * 201}, ("os",)),
    ({"thermal": 3}, ("thermal", "3")),
    ({"colour": "red"}, ("field", "'colour'")),
]


@pytest.mark.parametrize(("change", "words"), WRONG, ids=str)
def test_what_is_wrong_is_refused_in_one_line_and_nothing_is_written(change, words, manifest, runs, tmp_path, capsys):  # noqa: PLR0917
    """The first measurement of the file is right, and is not written either."""
    path, before = write(tmp_path / "a.json", [ITEM, {**ITEM, **change}]), everything(runs)
    code, _, err = called(["import", path, *options(manifest, runs)], capsys)
    assert code == 2
    assert len(err.splitlines()) == 1
    for word in words:
        assert word in err
    assert everything(runs) == before


@pytest.mark.parametrize("name", [name for name in ITEM if name != "samples"])
def test_every_field_must_be_given(name, manifest, runs, tmp_path, capsys):
    path, before = write(tmp_path / "a.json", [{key: ITEM[key] for key in ITEM if key != name}]), everything(runs)
    write(tmp_path / "other.json", [])
    (tmp_path / "second.json").write_text(json.dumps({"model": "mobileone_s1", "hash": OTHER_HASH}))
    given = ("import", path, "--manifest", manifest, tmp_path / "second.json", "--runs", runs)
    code, _, err = called(given, capsys)
    assert (code, f"{name}: None is not allowed" in err) == (2, True)
    assert everything(runs) == before


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.json", "{", ("a.json", "not readable")),
        ("a.json", "[]", ("a.json", "schema")),
        ("a.json", '{"schema": 2, "measurements": []}', ("schema", "2", "1")),
        ("a.json", '{"schema": 1, "measurements": []}', ("no measurement",)),
        ("a.csv", "schema,colour\n1,red\n", ("column", "'colour'")),
        ("a.csv", "schema,device\n7,x\n", ("schema", "'7'")),
        ("a.csv", "schema,device\n1\n", ("equal length",)),
        ("a.txt", "", ("file", ".json")),
    ],
)
def test_files_that_cannot_be_read(name, text, words, manifest, runs, tmp_path, capsys):  # noqa: PLR0917
    before = everything(runs)
    (tmp_path / name).write_text(text)
    code, _, err = called(["import", tmp_path / name, *options(manifest, runs)], capsys)
    assert code == 2
    assert len(err.splitlines()) == 1
    for word in words:
        assert word in err
    assert everything(runs) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--modelbench", "--low", "2", "--average", "1", *BY_HAND), ("average", "no less than low")),
        (("--modelbench", *BY_HAND), ("statistics",)),
        (("--modelbench", "--low", "1"), ("device", "--device")),
        (("--modelbench", "--low", "1", "--rounds", "0", *BY_HAND), ("rounds", "0")),
        ((), ("file", "--modelbench")),
    ],
    ids=str,
)
def test_options_that_cannot_be(arguments, words, manifest, tmp_path, capsys):
    code, _, err = called(["import", *arguments, *options(manifest, tmp_path / "runs")], capsys)
    assert (code, len(err.splitlines())) == (2, 1)
    for word in words:
        assert word in err
    assert not (tmp_path / "runs").exists()


def test_options_do_not_overrule_a_file(manifest, runs, tmp_path, capsys):
    path = write(tmp_path / "a.json", [ITEM])
    code, _, err = called(["import", path, "--device", "Testphone 7", *options(manifest, runs)], capsys)
    assert (code, "Testphone 1" in err) == (2, True)


@pytest.mark.slow
def test_killed_in_the_middle_leaves_no_half_run_and_the_rest_comes_in_later(manifest, tmp_path, capsys):
    """Twelve measurements; the import is killed after the first, and given again."""
    items = [{**ITEM, "device": f"Testphone {number}"} for number in range(12)]
    path, runs = write(tmp_path / "a.json", items), tmp_path / "runs"
    command = [sys.executable, "-c", PROGRAM, "latency", "import", str(path), *options(manifest, runs)]
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL)
    end = time.monotonic() + 60
    while not ((runs / "mlflow.db").exists() and rows(runs)) and time.monotonic() < end:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    there = rows(runs)
    assert 1 <= len(there) < 12
    assert all(len(row.statistics) == 5 for row in there)
    assert called(["import", path, *options(manifest, runs)], capsys)[0] == 0
    assert sorted(row.device for row in rows(runs)) == sorted(item["device"] for item in items)
    assert "RUNNING" not in {status for status, _ in everything(runs).values()}


@pytest.mark.parametrize("device", ["iphone", "mac"])
def test_run_on_another_system_says_so_and_how_to_go_on(device, tmp_path, capsys):
    if sys.platform == "darwin":
        pytest.skip("this is a Mac")
    given = ("run", "--device", device, "--model", tmp_path / "x.mlpackage", "--runs", tmp_path / "runs")
    code, _, err = called(given, capsys)
    assert (code, len(err.splitlines())) == (2, 1)
    for word in ("needs macOS", "Linux", "latency import"):
        assert word in err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("name", "values", "shown"),
    [
        ("model", (), "()"),
        ("units", (), "()"),
        ("model", ("a", "a"), "('a', 'a')"),
        ("units", ("all", "all"), "('all', 'all')"),
    ],
)
def test_run_of_nothing_or_the_same_twice_is_refused(name, values, shown, capsys):
    others = ("--model", "x.mlpackage") if name == "units" else ()
    code, _, err = called(("run", "--device", "mac", *others, f"--{name}", *values), capsys)
    assert (code, err) == (2, f"error: {name}: {shown} is not allowed; one or more, each once\n")


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from mobileone_core.cli import console\n"
        "for line in (['run', '--help'], ['import', '--help'], ['import', '--formats'], ['import', 'x.json']):\n"
        "    try: console(['latency', *line])\n"
        "    except SystemExit: pass\n"
        "heavy = {'torch', 'coremltools', 'mlflow', 'pandas'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
