"""Weight files as typed: a path, a run, the authors' released files; no network is used."""

import hashlib
import io
from urllib.error import URLError

import pytest

from mobileone_core.cli.options.study import RunOptions
from mobileone_core.data.spec import DataSpec
from mobileone_core.errors import InputError
from mobileone_core.model.spec import ModelSpec
from mobileone_core.study import weight_files
from mobileone_core.study.weight_files import read_weight_file
from mobileone_core.study.workspace import Workspace
from mobileone_core.training.cell import CellSpec
from mobileone_core.training.recipe import weights_digest


@pytest.fixture
def workspace(tmp_path):
    return Workspace.at(tmp_path / "runs")


@pytest.fixture
def run_weights(workspace):
    return RunOptions(runs=workspace.runs).run_weights


@pytest.fixture
def served(monkeypatch, tmp_path):
    """Sets what the authors' server answers: bytes, a shorter body than announced, or an error."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    urls = []

    def serve(body, missing=0):
        def urlopen(url, timeout):
            assert timeout > 0
            urls.append(url)
            if isinstance(body, Exception):
                raise body
            response = io.BytesIO(body)
            response.length = missing
            return response

        monkeypatch.setattr(weight_files, "urlopen", urlopen)
        return urls

    return serve


def test_a_file_is_identified_by_its_content(run_weights, tmp_path):
    path = tmp_path / "w.pth"
    path.write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()[:16]
    assert read_weight_file("init", str(path), run_weights) == (digest, {digest: path})
    assert read_weight_file("init", "", run_weights) == ("", {})


@pytest.mark.slow
def test_a_finished_run_gives_its_weights(workspace, run_weights, record_cell):
    run = record_cell(workspace, CellSpec(ModelSpec.preset("tiny", in_channels=1, k=1), DataSpec(image_size=16)))
    digest, files = read_weight_file("init", run[:10], run_weights)
    assert files[digest].name == "weights.safetensors"
    assert weights_digest(files[digest]) == digest


def test_what_is_neither_is_refused_in_one_line(run_weights):
    with pytest.raises(InputError) as error:
        read_weight_file("init", "nowhere.pth", run_weights)
    message = str(error.value)
    assert message.startswith("init: 'nowhere.pth' is not allowed; a weight file, apple:s0 to apple:s4 or a run (")
    assert "\n" not in message
    with pytest.raises(InputError, match="init: 's5' is not allowed; one of s0, s1, s2, s3, s4"):
        read_weight_file("init", "apple:s5", run_weights)


def test_a_plan_fetches_nothing(served, workspace, tmp_path):
    urls = served(b"released")
    with pytest.raises(InputError, match=r"init: 'apple:s2' is not allowed; --plan fetches nothing: put http"):
        read_weight_file("init", "apple:s2", RunOptions(plan=True, runs=workspace.runs).run_weights, fetch=False)
    with pytest.raises(InputError, match="--plan fetches nothing from a server"):
        RunOptions(plan=True, runs=workspace.runs, tracking="http://127.0.0.1:9").run_weights("ab")
    assert (urls, list(tmp_path.iterdir())) == ([], [])


def test_released_weights_are_fetched_once_and_checked(served, run_weights, capsys):
    urls = served(b"released")
    sha256 = hashlib.sha256(b"released").hexdigest()
    digest, files = read_weight_file("init", "apple:s1", run_weights)
    assert digest == sha256[:16]
    assert capsys.readouterr().out == f"{files[digest]}: SHA-256 {sha256}\n"
    assert read_weight_file("init", "apple:s1", run_weights)[0] == digest
    assert urls == [weight_files.URL.format("s1")]
    assert capsys.readouterr().out == ""
    files[digest].write_bytes(b"another")
    with pytest.raises(InputError, match=r"'apple:s1' is not allowed; .* is not what was first fetched"):
        read_weight_file("init", "apple:s1", run_weights)


@pytest.mark.parametrize("answer", [(URLError("no route"), 0), (b"half", 100)])
def test_without_a_network_a_line_says_what_to_put_where(served, run_weights, tmp_path, answer):
    served(*answer)
    with pytest.raises(InputError) as error:
        read_weight_file("init", "apple:s4", run_weights)
    message, path = str(error.value), tmp_path / "cache/hub/checkpoints/mobileone_s4_unfused.pth.tar"
    assert message.endswith(f"; put {weight_files.URL.format('s4')} at {path}")
    assert "\n" not in message
    assert not path.exists()
