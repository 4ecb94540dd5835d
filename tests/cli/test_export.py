"""`mobileone export`: a file's and a run's network, and what is refused."""

import hashlib
import json
import signal
import subprocess
import sys
import time

import onnx
import pytest
import torch
from mlflow import MlflowClient
from safetensors.torch import save_file

from mobileone_core.cli import console
from mobileone_core.cli.commands.export import class_labels
from mobileone_core.coreml.package import package_hash
from mobileone_core.errors import InputError
from mobileone_core.model.network import build_model, calibrate
from mobileone_core.model.spec import ModelSpec
from mobileone_core.model.weights import export_weights
from mobileone_core.study.record.record import create_record
from mobileone_core.study.workspace import Workspace
from mobileone_core.training.cell import CellSpec

pytestmark = pytest.mark.usefixtures("onnx_registry")
SPEC = ModelSpec.preset("tiny", in_channels=1)
COMMAND = (sys.executable, "-c", "from mobileone_core.cli import console; console()", "export")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    network = build_model(SPEC, 10)
    calibrate(network, [torch.randn(8, 1, 32, 32)])
    path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    save_file(export_weights(network), path)
    return path


@pytest.fixture(scope="module")
def runs(weights, tmp_path_factory):
    """A record with a finished run and one that is not."""
    workspace = Workspace.at(tmp_path_factory.mktemp("runs"))
    create_record(workspace)
    client = MlflowClient(workspace.tracking)
    experiment = client.create_experiment("study", workspace.artifacts.as_uri())
    cell = CellSpec(model=SPEC)
    for status in ("FINISHED", "RUNNING"):
        run = client.create_run(experiment, run_name=status, tags={"cell": cell.key, "variant": "tiny"})
        client.log_text(run.info.run_id, cell.to_json(), "cell.json")
        client.log_artifact(run.info.run_id, str(weights))
        client.log_metric(run.info.run_id, "test/top1", 0.875)
        if status == "FINISHED":
            client.set_terminated(run.info.run_id, status)
    found = client.search_runs([experiment])
    return workspace.runs, {run.info.run_name: run.info.run_id for run in found}


def exported(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        console(["export", *map(str, arguments)])
    captured = capsys.readouterr()
    return ended.value.code, captured.out, captured.err


def given(weights, *more):
    return ["--variant", "tiny", "--weights", weights, "--data", "digits", *more]


@pytest.mark.slow
def test_core_ml_of_a_file(weights, tmp_path, capsys):
    output = tmp_path / "tiny.mlpackage"
    code, out, err = exported(given(weights, "--output", output, "--input", "image"), capsys)
    assert (code, err) == (0, "")
    assert "11 conv, 11 relu" in out
    assert package_hash(output) in out
    manifest = json.loads((output / "mobileone.json").read_text())
    assert (manifest["hash"], manifest["input"], manifest["precision"]) == (package_hash(output), "image", "float16")
    digest = subprocess.run(["sha256sum", weights], capture_output=True, text=True, check=True).stdout.split()[0]
    assert manifest["metadata"]["mobileone.weights_sha256"] == digest
    assert str(tmp_path) not in json.dumps(manifest)
    code, _, err = exported(given(weights, "--output", output), capsys)
    assert (code, "--force" in err) == (2, True)
    code, _, _ = exported(given(weights, "--output", output, "--force", "--precision", "float32"), capsys)
    assert code == 0
    assert json.loads((output / "mobileone.json").read_text())["precision"] == "float32"
    assert list(tmp_path.iterdir()) == [output]


@pytest.mark.quick_cases("onnx")
@pytest.mark.parametrize("form", ["coreml", "onnx"])
def test_a_finished_run(form, runs, tmp_path, capsys):
    output = tmp_path / ("run.mlpackage" if form == "coreml" else "run.onnx")
    arguments = ["--run", runs[1]["FINISHED"], "--runs", runs[0], "--format", form, "--output", output]
    code, out, err = exported(arguments, capsys)
    assert (code, err) == (0, "")
    assert "1 x 32 x 32" in out
    if form == "coreml":
        metadata = json.loads((output / "mobileone.json").read_text())["metadata"]
    else:
        metadata = {item.key: item.value for item in onnx.load(output).metadata_props}
        manifest = json.loads((tmp_path / "run.onnx.json").read_text())
        assert manifest["hash"] == hashlib.sha256(output.read_bytes()).hexdigest()
        assert manifest["metadata"] == metadata
        assert manifest["verified"]["census"]["Conv"] == sum(
            node.op_type == "Conv" for node in onnx.load(output).graph.node
        )
    assert metadata["mobileone.test/top1"] == "0.875"
    assert metadata["mobileone.key"] == CellSpec(model=SPEC).key


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["--format", "coreml", "--output", "x.onnx"], ("output", "x.onnx", ".mlpackage")),
        (["--output", "x.pb"], ("output", "x.pb", ".mlpackage or .onnx")),
        (["--batch-size", "2"], ("batch_size", "2", "for ONNX")),
        (["--output", "x.onnx", "--batch-size", "0"], ("batch_size", "0")),
        (["--output", "nowhere/x.mlpackage"], ("output", "nowhere", "directory that exists")),
        (["--format", "onnx", "--output", "x.onnx", "--input", "image"], ("input", "tensor for ONNX")),
        (["--k", "1"], ("does not fit", "unexpected")),
        (["--activation", "dynamic_relu_a"], ("does not fit", "missing")),
        (["--variant", "s9"], ("variant", "'s9'")),
        (["--weights", "nothing.pth"], ("weights", "nothing.pth")),
        (["--image-size", "0"], ("image_size", "0")),
        (["--labels", "x.txt"], ("labels", "x.txt", "existing file")),
        (["--run", "abc"], ("run", "'abc'", "leave it out")),
    ],
    ids=" ".join,
)
def test_what_cannot_be_exported_is_refused_in_one_line(changes, words, weights, tmp_path, capsys, monkeypatch):  # noqa: PLR0917
    monkeypatch.chdir(tmp_path)
    code, _, err = exported(given(weights, "--output", "x.mlpackage", *changes), capsys)
    assert code == 2
    assert len(err.splitlines()) == 1
    for word in words:
        assert word in err
    assert list(tmp_path.iterdir()) == []


def test_runs_that_cannot_be_exported(runs, tmp_path, capsys):
    for run, words in (("0" * 32, "a run of the record"), (runs[1]["RUNNING"], "a FINISHED run")):
        code, _, err = exported(
            ["--run", run, "--runs", runs[0], "--output", tmp_path / "x.mlpackage"],
            capsys,
        )
        assert code == 2
        assert words in err
    assert list(tmp_path.iterdir()) == []


def test_labels(tmp_path):
    assert class_labels("ab", 2, None, required=True) == ("a", "b")
    assert class_labels((), 2, None, required=False) == ()
    file = tmp_path / "labels.txt"
    file.write_text("cat\ndog\n")
    assert class_labels((), 2, file, required=True) == ("cat", "dog")
    for arguments, words in ((((), 3, file), "one per class: 3"), (((), 2, None), "--labels FILE")):
        with pytest.raises(InputError, match=words):
            class_labels(*arguments, required=True)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_export_leaves_no_package(number, weights, tmp_path):
    process = subprocess.Popen(
        [*COMMAND, *map(str, given(weights, "--output", tmp_path / "x.mlpackage"))], stderr=subprocess.DEVNULL
    )
    while process.poll() is None and not list(tmp_path.iterdir()):
        time.sleep(0.005)
    process.send_signal(number)
    process.wait()
    assert process.returncode in (-signal.SIGKILL, 130)
    assert not (tmp_path / "x.mlpackage").exists()
