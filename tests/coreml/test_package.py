"""A package is whole or not there."""

import signal
import subprocess
import sys

import pytest

from mobileone_core.coreml.package import MODEL, WEIGHTS, package_hash, part_hashes, write_package
from mobileone_core.errors import InputError

KILLED = """
import os, signal, sys, time
from pathlib import Path
from mobileone_core.coreml.package import write_package

def write(aside):
    aside.mkdir()
    (aside / "half").write_text("half of it")
    print("writing", flush=True)
    time.sleep(60)

write_package(Path(sys.argv[1]), write)
"""


def write_text(text):
    def write(aside):
        for part in (MODEL, WEIGHTS):
            (aside / part).parent.mkdir(parents=True, exist_ok=True)
            (aside / part).write_text(text)

    return write


def test_a_package_replaces_another(tmp_path):
    path = tmp_path / "a.mlpackage"
    write_package(path, write_text("old"))
    old = package_hash(path)
    write_package(path, write_text("new"))
    assert package_hash(path) != old
    assert (path / MODEL).read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_what_fails_leaves_the_old_one(tmp_path):
    path = tmp_path / "a.mlpackage"
    write_package(path, write_text("old"))

    def fail(aside):
        write_text("new")(aside)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_package(path, fail)
    assert (path / MODEL).read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_killed_process_leaves_no_package_and_the_next_removes_its_remains(tmp_path):
    path = tmp_path / "a.mlpackage"
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "writing\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not path.exists()
    assert len(list(tmp_path.iterdir())) == 1
    write_package(path, write_text("new"))
    assert list(tmp_path.iterdir()) == [path]


def test_hashes_need_a_package(tmp_path):
    with pytest.raises(InputError, match=r"not a Core ML package: .*model\.mlmodel is missing"):
        package_hash(tmp_path)
    write_text("same")(tmp_path)
    assert set(part_hashes(tmp_path)) == {"model.mlmodel", "weight.bin"}
