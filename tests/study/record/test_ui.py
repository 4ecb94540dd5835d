"""The record is served on this machine alone, and what is in the way is said."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
from study_proof import give_databases

from mobileone_core.errors import InputError
from mobileone_core.study.record.access import TRIED, free_port, serve


def taken(port):
    listener = socket.socket()
    listener.bind(("127.0.0.1", port))
    listener.listen()
    return listener


def test_a_record_that_is_not_there_is_named(workspace):
    with pytest.raises(InputError, match=r"mlflow.db: no record here yet"):
        serve(workspace, 5000)
    assert not workspace.runs.exists()


def test_a_file_that_is_no_record_is_named(workspace):
    workspace.runs.mkdir()
    (workspace.runs / "mlflow.db").write_text("notes " * 100)
    with pytest.raises(InputError, match="not a database"):
        serve(workspace, 5000)


def test_a_taken_port_is_passed_by():
    with taken(0) as listener:
        port = listener.getsockname()[1]
        assert port < free_port(port) < port + TRIED


def test_a_port_out_of_range_is_named():
    with pytest.raises(InputError, match="port: 70000 is not allowed"):
        free_port(70000)


@pytest.mark.slow
def test_the_ui_answers_and_ends_with_ctrl_c(databases, workspace):
    give_databases(databases, workspace)
    code = (
        "import sys; from pathlib import Path; from mobileone_core.study.record.access import serve; "
        "from mobileone_core.study.workspace import Workspace; "
        f"sys.exit(serve(Workspace.at(Path({str(workspace.runs)!r})), 5300))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True)
    address = process.stdout.readline().split()[0]
    assert address.startswith("http://127.0.0.1:")
    page = answer(address, process)
    assert b"mlflow" in page.lower()
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 0
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(address, timeout=5)


def answer(address, process):
    for _ in range(600):
        assert process.poll() is None
        try:
            with urllib.request.urlopen(address, timeout=5) as response:
                return response.read()
        except OSError:
            time.sleep(0.1)
    raise AssertionError("it never answered")
