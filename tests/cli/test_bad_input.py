"""Mistakes of users: one short message that names the mistake, a non-zero status, no traceback, nothing lost."""

import contextlib
import io
import os
import resource
import runpy
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from mobileone_core.cli import main
from mobileone_core.cli.options.study import parse
from mobileone_core.study.record.reading import read_record
from mobileone_core.study.workspace import Workspace

ROOT = Path(__file__).parents[2]
STUDY = ROOT / "studies" / "branch_count.py"
SMALL = ("--k", "1", "--seeds", "1", "--epochs", "1", "--batch-size", "512", "--ema-decay", "0", "--workers", "1")
LARGER = (*SMALL, "--k", "1", "16")


def study(*options, limit_bytes=None):
    """Run the study in a process of its own, with files of at most limit_bytes."""

    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

    return subprocess.run(
        [sys.executable, str(STUDY), *map(str, options)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        preexec_fn=limited if limit_bytes else None,
        env={**os.environ, "COLUMNS": "200"},
    )


def here(*options):
    """Run the study in this process, which spares an interpreter and the imports of its fork server."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as ended:
        main(runpy.run_path(str(STUDY))["STUDY"], list(map(str, options)))
    return subprocess.CompletedProcess(options, ended.value.code, out.getvalue(), err.getvalue())


def succeed(*options):
    done = here(*options)
    assert done.returncode == 0, done.stdout + done.stderr


def assert_refused(done, *words, status=2):
    output = done.stdout + done.stderr
    assert done.returncode == status, output
    assert "Traceback" not in output, output
    for word in words:
        assert str(word) in output, output
    assert len(done.stderr.splitlines()) <= 15, done.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--kk", "3"), ("--kk",)),
        (("--k", "x"), ("--k", "x")),
        (("--k", "0"), ("k", "0", "1 to 16")),
        (("--k", "1", "17"), ("k", "17", "1 to 16")),
        (("--k", "2", "3"), ("k", "[2, 3]", "baseline level 1")),
        (("--k", "1", "1"), ("k", "each once")),
        (("--variant", "s9"), ("variant", "s9", "s4", "tiny")),
        (("--data", "coco"), ("data", "coco", "digits", "imagenet")),
        (("--activation", "swish"), ("swish", "--activation", "silu")),
        (("--recipe", "fast"), ("recipe", "fast", "paper")),
        (("--seeds", "0"), ("seeds", "0", "from 1 to 100000")),
        (("--seeds", "1000000000"), ("seeds", "1000000000", "from 1 to 100000")),
        (("--image-size", "100000"), ("image_size", "100000", "from 1 to 8192")),
        (("--workers", "0"), ("workers", "0", "1 or more")),
        (("--threads", "0"), ("threads", "0", "1 or more")),
        (("--epochs", "-1"), ("epochs", "-1", "1 or more")),
        (("--device", "tpu"), ("device", "tpu", "cuda")),
        (("--data", "cifar10"), ("data_root", "cifar10", "--data-root")),
        (("--data", "imagenet", "--data-root", "/nowhere"), ("/nowhere",)),
        (("--no-reparam",), ("k", "reparam")),
        *(((option, "~no-such-user/x"), ("~no-such-user", "home")) for option in ("--checkpoints", "--init")),
        (("--data", "folder", "--data-root", "~no-such-user/x"), ("~no-such-user", "home")),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) and value[0].startswith("--") else "",
)
def test_values_that_cannot_be(options, words, tmp_path):
    """In this process; that such an end has no traceback either is shown by the tests below."""
    runs = tmp_path / "runs"
    assert_refused(here(*options, "--runs", runs), *words)
    assert not runs.exists()


@pytest.mark.slow
def test_runs_directory_that_cannot_be_written(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("no directory")
    assert_refused(here(*SMALL, "--runs", blocked / "runs"), blocked)


def test_data_root_without_data(tmp_path):
    done = study("--data", "folder", "--data-root", tmp_path, "--runs", tmp_path / "runs")
    assert_refused(done, tmp_path, "train")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["optuna.db", "mlflow.db"])
def test_file_that_is_no_database(name, tmp_path):
    path = tmp_path / name
    path.write_text("These are my notes.\n" * 100)
    assert_refused(here(*SMALL, "--runs", tmp_path), path, "not a database")
    assert path.read_text() == "These are my notes.\n" * 100


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A runs directory with one complete cell."""
    runs = tmp_path_factory.mktemp("runs")
    succeed(*SMALL, "--runs", runs)
    return runs


def altered(finished, tmp_path, name, *statements):
    """A copy of the databases with something changed in one."""
    for path in finished.glob("*.db"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    with sqlite3.connect(tmp_path / name) as connection:
        for statement in statements:
            assert connection.execute(statement).rowcount > 0
    connection.close()
    return tmp_path


@pytest.mark.slow
def test_record_of_a_newer_schema(finished, tmp_path):
    runs = altered(finished, tmp_path, "mlflow.db", "UPDATE experiment_tags SET value = '99' WHERE key = 'schema'")
    assert_refused(here(*SMALL, "--runs", runs), "99", "newer")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["optuna.db", "mlflow.db"])
def test_database_of_a_newer_library(name, finished, tmp_path):
    runs = altered(finished, tmp_path, name, "UPDATE alembic_version SET version_num = 'v99.0'")
    assert_refused(here(*SMALL, "--runs", runs), name, "v99.0", "newer")


@pytest.mark.slow
def test_second_run_has_nothing_to_do_and_leaves_everything_as_it_was(finished):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()}
    done = study(*SMALL, "--runs", finished)
    assert done.returncode == 0, done.stderr
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()} == before


@pytest.mark.slow
def test_plan_shows_the_cell_and_creates_nothing(finished, tmp_path):
    done = study(*SMALL, "--plan", "--runs", finished)
    assert "complete" in done.stdout
    done = study(*SMALL, "--plan", "--runs", tmp_path / "other")
    assert "missing" in done.stdout
    assert not (tmp_path / "other").exists()


@pytest.mark.slow
def test_corrupt_image_fails_its_cell_and_names_the_file(tmp_path):
    for split in ("train", "val"):
        for label in ("cat", "dog"):
            folder = tmp_path / "data" / split / label
            folder.mkdir(parents=True)
            for number in range(6):
                Image.new("RGB", (40, 40), (number * 40, 90, 30)).save(folder / f"{number}.png")
    for broken in (tmp_path / "data" / "train").rglob("*.png"):
        broken.write_bytes(broken.read_bytes()[:60])
    done = here(
        *(*SMALL, "--data", "folder", "--data-root", tmp_path / "data"),
        *("--batch-size", "2", "--runs", tmp_path / "runs"),
    )
    assert_refused(done, tmp_path / "data" / "train", "not a readable image", status=1)


@pytest.mark.slow
def test_broken_checkpoint_fails_its_cell_and_says_what_to_do(tmp_path):
    declared = runpy.run_path(str(STUDY))["STUDY"]
    plan = parse(declared, SMALL).request.plan
    checkpoint = Workspace.at(tmp_path).checkpoints(plan.queue, plan.cells[0].key) / "last.ckpt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(b"not a checkpoint")
    assert_refused(here(*SMALL, "--runs", tmp_path), checkpoint, status=1)
    checkpoint.unlink()
    succeed(*SMALL, "--runs", tmp_path)


def complete_rows(runs):
    """Run id and metrics of every complete cell of the larger plan, by cell."""
    declared = runpy.run_path(str(STUDY))["STUDY"]
    record = read_record(Workspace.at(runs).tracking, parse(declared, LARGER).request.plan)
    assert record.problems == []
    return {row.key: (row.run_id, row.metrics) for row in record.rows}


@pytest.mark.slow
@pytest.mark.parametrize(("full_at", "status"), [("planning", 2), ("work", 1)])
def test_full_disk_loses_nothing(full_at, status, finished, tmp_path):
    """One cell is complete; there is no room to plan another level, or none for its weights (1.3 MB)."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    before = complete_rows(tmp_path)
    assert len(before) == 1
    options = (*LARGER, "--runs", tmp_path)
    limit_bytes = 50_000 if full_at == "planning" else (tmp_path / "mlflow.db").stat().st_size
    assert_refused(study(*options, limit_bytes=limit_bytes), status=status)
    assert complete_rows(tmp_path) == before
    succeed(*options)
    after = complete_rows(tmp_path)
    assert len(after) == 2
    assert after.items() >= before.items()


def test_a_reader_that_leaves_is_no_error():
    pipe = subprocess.Popen(
        [sys.executable, str(STUDY), "--plan"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    pipe.stdout.close()
    assert pipe.stderr.read() == ""
    assert pipe.wait() == 141
    pipe.stderr.close()
