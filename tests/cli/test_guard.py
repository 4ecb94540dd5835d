"""Commands in other people's environments: encodings, notebooks, signals."""

import importlib
import io
import os
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

import mobileone_core
from mobileone_core.cli.commands.run import ui
from mobileone_core.cli.guard import guarded
from mobileone_core.cli.options.workspace import Ui, WorkspaceOptions
from mobileone_core.study.record import access

NOTEBOOK = "module://matplotlib_inline_that_is_missing.backend_inline"


@pytest.mark.parametrize(("encoding", "shown"), [("ascii", b"98 ? 1 ?"), ("cp1252", b"98 \xb1 1 ?"), ("utf-8", None)])
@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
def test_a_character_that_the_output_lacks_is_replaced(monkeypatch, encoding, shown, errors):
    out = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out, encoding, errors))
    assert guarded(lambda: print("98 ± 1 你", end="") or 0) == 0
    assert out.getvalue() == (shown or "98 ± 1 你".encode())


def test_a_notebook_s_backend_ends_no_command_and_no_import(monkeypatch):
    monkeypatch.setenv("MPLBACKEND", NOTEBOOK)
    assert guarded(lambda: 0 if os.environ["MPLBACKEND"] == "agg" else 1) == 0
    for backend, remains in ((NOTEBOOK, False), ("module://json.tool", True), ("svg", True)):
        monkeypatch.setenv("MPLBACKEND", backend)
        importlib.reload(mobileone_core)
        assert ("MPLBACKEND" in os.environ) == remains


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.slow
def test_a_signal_ends_the_server_with_all_its_processes(monkeypatch, tmp_path, number):
    def popen(command, **options):
        script = f"sleep 60 & echo $! > {tmp_path}/server; wait"
        return real(["sh", "-c", script], **options)

    def end():
        while not (tmp_path / "server").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    real = subprocess.Popen
    monkeypatch.setattr(access.subprocess, "Popen", popen)
    monkeypatch.setattr(access, "require_database", lambda _: None)
    monkeypatch.setattr("mobileone_core.study.record.views.save_views", lambda *_: [])
    threading.Thread(target=end).start()
    assert ui(Ui(WorkspaceOptions(tmp_path))) == 0
    server = int((tmp_path / "server").read_text())
    assert not psutil.pid_exists(server) or psutil.Process(server).status() == psutil.STATUS_ZOMBIE
