"""Measuring on an iPhone, with fake tools of Xcode on PATH as processes of their own and a stub for the benchmarker.

coremltools' own remote device finds, builds for and prepares the device that the fake tools tell of.
"""

import json
import stat
from pathlib import Path
from types import SimpleNamespace

import pytest
from coremltools.models.ml_program.experimental import remote_device

from mobileone_core.cli import console
from mobileone_core.coreml.iphone import Phone, measure_on_iphone
from mobileone_core.coreml.package import package_hash
from mobileone_core.errors import InputError
from mobileone_core.study.record.access import open_record
from mobileone_core.study.record.standalone import read_devices

TEAM = "ABCDE12345"
DEVICE = {
    "identifier": "FAKE-1",
    "deviceProperties": {
        "name": "Fake",
        "osVersionNumber": "17.4",
        "osBuildUpdate": "00T00",
        "developerModeStatus": "enabled",
    },
    "hardwareProperties": {
        "deviceType": "iPhone",
        "udid": "FAKE-UDID",
        "marketingName": "Fakephone",
        "productType": "Fake1,1",
    },
    "connectionProperties": {"tunnelState": "connected"},
}
DEVICECTL = """#!/bin/bash
if [ -n "$DEVICECTL_FAILS" ] && [[ "$*" == *"$DEVICECTL_FAILS"* ]]; then
  echo "fake: $DEVICECTL_FAILS failed" >&2; exit 1
fi
case "$*" in
  *"process launch"*) exec sleep 30;;
  *"install app"*) answer='{"result": {"installedApplications": [{"bundleID": "fake.app", "databaseUUID": "u"}]}}';;
  *"list devices"*) answer=$(cat "$FAKE_DEVICES");;
esac
while [ $# -gt 1 ]; do [ "$1" = "-j" ] && echo "$answer" > "$2"; shift; done
exit 0
"""
XCRUN = """#!/bin/bash
if [ "$1" = "-f" ]; then [ -n "$NO_DEVICECTL" ] && exit 1; echo "$TOOLS/devicectl"; exit 0; fi
shift; exec "$TOOLS/devicectl" "$@"
"""
XCODEBUILD = """#!/bin/bash
if [ "$1" = "-version" ]; then echo "Xcode ${XCODE-15.4}"; exit 0; fi
if [ -n "$BUILD_SLEEPS" ]; then exec sleep "$BUILD_SLEEPS"; fi
if [ -n "$BUILD_FAILS" ]; then echo "$BUILD_FAILS"; exit 65; fi
for word in "$@"; do case "$word" in SYMROOT=*) mkdir -p "${word#SYMROOT=}/Release/Fake.app";; esac; done
"""


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """Fake sw_vers, xcodebuild, xcrun and devicectl; the device that is listed lies in devices.json."""
    folder = tmp_path / "tools"
    folder.mkdir()
    texts = {"sw_vers": "#!/bin/bash\necho ${MACOS-14.4}\n", "xcodebuild": XCODEBUILD, "xcrun": XCRUN}
    for name, text in {**texts, "devicectl": DEVICECTL}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(stat.S_IRWXU)
    project = tmp_path / "project"  # Linux wheels of coremltools lack the app's sources
    (project / "ModelRunner.xcworkspace").mkdir(parents=True)
    monkeypatch.setattr(remote_device._ModelRunnerAppBuilder, "_get_project_path", staticmethod(lambda: project))
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setenv("TOOLS", str(folder))
    list_devices(tmp_path, monkeypatch, [DEVICE])
    return folder


def list_devices(tmp_path, monkeypatch, devices):
    path = tmp_path / "devices.json"
    path.write_text(json.dumps({"result": {"devices": devices}}))
    monkeypatch.setenv("FAKE_DEVICES", str(path))


@pytest.fixture
def package(tmp_path):
    path = tmp_path / "fake.mlpackage"
    for name in ("model.mlmodel", "weights/weight.bin"):
        file = path / "Data" / "com.apple.CoreML" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(name.encode())
    return path


class MLNeuralEngineComputeDevice:
    """Named as coremltools'."""


class Stub:
    """A benchmarker that gives 111 ms for every call, and sends a file to the device before each."""

    def __init__(self, package: Path, units: str, device) -> None:
        assert package.suffix == ".mlpackage"
        self.device, self.units = device, units

    async def _calls(self, count):
        for _ in range(count):
            self.device.session.send_file_to_app(Path(__file__), "fake")
        return SimpleNamespace(samples=[111.0] * count)

    async def benchmark_load(self, iterations):
        return await self._calls(iterations)

    async def benchmark_predict(self, iterations, warmup):
        assert warmup
        return await self._calls(iterations)

    async def benchmark_operation_execution(self, iterations):
        assert iterations == 1
        usage = SimpleNamespace(preferred_compute_device=MLNeuralEngineComputeDevice())
        spec = SimpleNamespace(type="conv", outputs=[SimpleNamespace(name="y")])
        return [SimpleNamespace(spec=spec, compute_device_usage=usage)]


def answering(device):
    """The answer of devicectl's copy, as coremltools wants it."""
    return f'{{"result": {{"source": "{device}", "destination": "fake"}}}}'


@pytest.fixture(autouse=True)
def benchmarker(monkeypatch):
    monkeypatch.setattr("mobileone_core.coreml.iphone.build_benchmarker", Stub)


@pytest.fixture(autouse=True)
def copies(tools):
    path = tools / "devicectl"
    text = path.read_text().replace(
        '  *"list devices"*)', '  *"copy to"*) answer=\'' + answering("here") + '\';;\n  *"list devices"*)'
    )
    path.write_text(text)


def measured(package, tmp_path, **changes):
    phone = Phone(**{"team": TEAM, "work": tmp_path / "work", "timeout": 60.0, **changes})
    return measure_on_iphone([package], ["all", "cpu_only"], 3, phone)


@pytest.mark.slow
def test_a_whole_measurement(package, tmp_path):
    found = measured(package, tmp_path)
    assert [item.measurement.compute_units for item in found] == ["all", "cpu_only"]
    first = found[0].measurement
    assert (first.device, first.os) == ("Fakephone (Fake1,1)", "iOS 17.4 (00T00)")
    assert (first.protocol, first.n, list(first.samples)) == ("remote-device", 3, [111.0] * 3)
    assert first.placement == {"NeuralEngine": 1}
    assert [(item.operator, item.output, item.unit) for item in found[0].operators] == [("conv", "y", "NeuralEngine")]
    assert list((tmp_path / "work").rglob("*.app")) != []  # kept for the next time


@pytest.mark.slow
def test_no_compute_plan_before_ios_17_4(package, tmp_path, monkeypatch):
    older = {**DEVICE, "deviceProperties": {**DEVICE["deviceProperties"], "osVersionNumber": "17.3.1"}}
    list_devices(tmp_path, monkeypatch, [older])
    assert [item.operators for item in measured(package, tmp_path)] == [(), ()]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"XCODE": "14.3"}, ("Xcode 14.3", "too old", "App Store")),
        ({"DEVICECTL_FAILS": "list devices"}, ("devicectl", "list devices failed", "plug it in again")),
        ({"BUILD_FAILS": "error: No signing certificate"}, ("signing", "No signing certificate", "Accounts")),
        ({"BUILD_FAILS": "error: iOS 17 is not there"}, ("build", "iOS 17 is not there", "--work")),
        ({"DEVICECTL_FAILS": "install app"}, ("install", "install app failed", "free some space")),
        ({"DEVICECTL_FAILS": "copy to"}, ("connection lost", "copy to failed", "plugged in")),
    ],
    ids=str,
)
def test_failing_tools_are_refused_with_the_cure(environment, words, package, tmp_path, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert_refused(package, tmp_path, words)


def assert_refused(package, tmp_path, words, **changes):
    with pytest.raises(InputError) as refused:
        measured(package, tmp_path, **changes)
    assert len(str(refused.value).splitlines()) == 1
    for word in words:
        assert word in str(refused.value)


@pytest.mark.parametrize(
    ("removed", "environment", "words"),
    [
        ("sw_vers", {}, ("needs macOS", "Linux", "latency import")),
        ("xcodebuild", {}, ("xcode", "install Xcode 15")),
        ("devicectl", {"NO_DEVICECTL": "1"}, ("devicectl", "xcrun -f")),
    ],
)
def test_missing_tools(removed, environment, words, tools, package, tmp_path, monkeypatch):  # noqa: PLR0917
    (tools / removed).unlink()
    test_failing_tools_are_refused_with_the_cure(environment, words, package, tmp_path, monkeypatch)


@pytest.mark.slow
def test_devicectl_that_xcrun_alone_finds_is_put_on_the_path(tools, package, tmp_path, monkeypatch):
    apart = tools / "apart"
    apart.mkdir()
    (tools / "devicectl").rename(apart / "devicectl")
    xcrun = (tools / "xcrun").read_text().replace("$TOOLS/devicectl", "$TOOLS/apart/devicectl")
    (tools / "xcrun").write_text(xcrun)
    assert len(measured(package, tmp_path)) == 2


@pytest.mark.parametrize(
    ("part", "field", "value", "words"),
    [
        ("hardwareProperties", "deviceType", "iPad", ("iphone", "none", "cable")),
        ("connectionProperties", "tunnelState", "disconnected", ("Fake: disconnected", "unlock")),
        ("deviceProperties", "developerModeStatus", "disabled", ("developer mode", "disabled", "Privacy")),
        ("deviceProperties", "osVersionNumber", "16.7", ("iOS", "16.7", "update")),
    ],
)
def test_devices_that_cannot_be_used(part, field, value, words, package, tmp_path, monkeypatch):  # noqa: PLR0917
    list_devices(tmp_path, monkeypatch, [{**DEVICE, part: {**DEVICE[part], field: value}}])
    assert_refused(package, tmp_path, words)


def test_no_devices_several_devices_and_other_names(package, tmp_path, monkeypatch):
    list_devices(tmp_path, monkeypatch, [])
    assert_refused(package, tmp_path, ("iphone", "none", "Trust"))
    list_devices(tmp_path, monkeypatch, [DEVICE, {**DEVICE, "identifier": "FAKE-2"}])
    assert_refused(package, tmp_path, ("--name",))
    assert_refused(package, tmp_path, ("Other", "Fake"), name="Other")


@pytest.mark.parametrize("team", ["", "abcde12345", "ABC"])
def test_team_id(team, package, tmp_path):
    assert_refused(package, tmp_path, ("team", "Accounts", "--team"), team=team)


@pytest.mark.slow
def test_a_build_that_hangs_ends_with_its_process(package, tmp_path, monkeypatch):
    monkeypatch.setenv("BUILD_SLEEPS", "300")
    assert_refused(package, tmp_path, ("timeout", "--timeout"), timeout=1.5)


@pytest.mark.slow
def test_the_command_records_what_was_measured(package, tmp_path, capsys):
    (package / "mobileone.json").write_text(
        json.dumps(
            {"hash": package_hash(package), "told": {"variant": "s0"}, "precision": "float16", "input": "tensor"}
        )
    )
    runs = tmp_path / "runs"
    given = ("latency", "run", "--device", "iphone", "--model", package, "--units", "all", "--n", 3, "--team", TEAM)
    with pytest.raises(SystemExit) as ended:
        console([str(item) for item in (*given, "--runs", runs)])
    out = capsys.readouterr().out
    assert ended.value.code == 0
    with open_record(f"sqlite:///{runs / 'mlflow.db'}") as record:
        (row,) = read_devices(record, {})
    assert (row.model, row.source, row.protocol, row.n) == ("mobileone_s0", "measured", "remote-device", 3)
    assert row.statistics == dict.fromkeys(("min", "median", "average", "p90", "max"), 111.0)
    assert row.run_id in out
    assert "not for the paper's latency" in out
    (placement,) = runs.rglob("placement.json")
    assert json.loads(placement.read_text()) == [{"operator": "conv", "output": "y", "unit": "NeuralEngine"}]
    assert len(list(runs.rglob("samples.json"))) == 1


@pytest.mark.slow
def test_nothing_is_recorded_where_the_iphone_goes_away(package, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DEVICECTL_FAILS", "copy to")
    given = ("--device", "iphone", "--model", package, "--title", "fake", "--team", TEAM, "--runs", tmp_path / "runs")
    with pytest.raises(SystemExit) as ended:
        console(["latency", "run", *map(str, given)])
    err = capsys.readouterr().err
    assert (ended.value.code, "connection lost" in err) == (2, True)
    assert not list(tmp_path.rglob("mlflow.db"))
