"""MLflow's UI for the record, served to this machine only."""

import os
import socket
import subprocess
import sys

from mobileone_core.errors import InputError, require
from mobileone_core.study.database import database_exists, require_database, sqlite_path
from mobileone_core.study.workspace import Workspace, is_server, redacted

HOST = "127.0.0.1"
TRIED = 20  # ports
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


def serve(workspace: Workspace, port: int) -> int:
    """Serve the record until Ctrl-C and print its address; return the server's exit status, 0 after Ctrl-C.

    The first free port, counted from port, is used. Raises InputError if there is no record or no free port.
    """
    if is_server(workspace.tracking):
        print(f"{redacted(workspace.tracking)} serves this record already")
        return 0
    path = sqlite_path(workspace.tracking)
    if path is not None:
        if not database_exists(path):
            raise InputError(f"{path}: no record here yet; run a study first")
        require_database(path)
    chosen = free_port(port)
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(chosen), "--workers", "1"]
    command += ["--backend-store-uri", workspace.tracking, "--artifacts-destination", workspace.artifacts.as_uri()]
    print(f"http://{HOST}:{chosen}  (Ctrl-C ends it)", flush=True)
    process = subprocess.Popen(command, env={**os.environ, **QUIET})
    try:
        return process.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        _end(process)


def free_port(first: int) -> int:
    """The first port, counted from first, that no process listens on. Raises InputError if 20 are taken."""
    require(1 <= first <= 65535, "port", first, "from 1 to 65535")
    for port in range(first, min(first + TRIED, 65536)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
        return port
    raise InputError.of("port", first, f"a free port; {first} to {first + TRIED - 1} are taken")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        process.kill()
        process.wait()
