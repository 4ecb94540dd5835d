"""The site of a chaos trial: its directories, servers, commands and their workers."""

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
from chaos_cells import DATA, EPOCHS, LEVELS, chaos_plan
from servers import MlflowServer, Postgres

from mobileone_core.errors import InputError
from mobileone_core.study.queue.queue import Queue
from mobileone_core.study.state import cell_states, study_states
from mobileone_core.study.workspace import QueueTiming, Workspace

CELLS = Path(__file__).with_name("chaos_cells.py")
FAKETIME = [Path(f"/usr/lib/{name}-linux-gnu/faketime/libfaketimeMT.so.1") for name in ("x86_64", "aarch64")]
SECONDS = 0.4  # of an epoch
DISK = "48m"  # size of the trial's file system
ROUNDS = 12  # commands at the end, until all is complete
STARTED = 30.0  # seconds that commands may take until a cell is running
PATIENCE = 240.0  # seconds until a command that nothing disturbs has to end
TO_DELETE = re.compile(r"(\S+last\.ckpt): not a checkpoint of this version; delete it")


class Site:
    """Directories, servers and commands; as a context it ends all of them."""

    def __init__(self, root, queue, record, commands, workers):
        self.root, self.runs, self.data = root, root / "runs", root / "data"
        self.mark, self.workers, self.seeds = f"CHAOS={root.name}", workers, 2
        self.commands, self.logs, self.reasons, self.tracebacks = [None] * commands, [], Counter(), []
        self.kind, self.record = queue, record
        self.postgres = self.mlflow = None
        self.clock, self.faketime = "", next(filter(Path.exists, FAKETIME), None)
        self.mounts = []

    def __enter__(self):
        for directory in (self.runs, self.data):
            directory.mkdir()
        (self.data / "settings.json").write_text(json.dumps({"seconds": SECONDS}))
        (self.data / DATA).write_bytes(b"images")
        self.is_small = self.mount(self.runs, DISK)
        (self.runs / "checkpoints").mkdir()
        self.has_checkpoint_disk = self.mount(self.runs / "checkpoints", DISK)
        queue = tracking = ""
        if self.kind == "postgresql":
            self.postgres = Postgres(self.root / "postgres")
            queue = self.postgres.database("queue")
        if self.record == "server":
            backend = self.postgres.database("record") if self.postgres else f"sqlite:///{self.root}/mlflow.db"
            self.mlflow = MlflowServer(backend, self.root / "shared", self.root / "mlflow.log")
            self.mlflow.start()
            tracking = self.mlflow.url
        self.workspace = Workspace.at(self.runs, queue, tracking)
        return self

    def __exit__(self, *_):
        for process in self.marked():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        for command in filter(None, self.commands):
            command.wait()
        if self.mlflow:
            self.mlflow.kill()
        if self.postgres:
            self.postgres.stop()
        for path in reversed(self.mounts):
            subprocess.run(["umount", "-l", str(path)], check=False)

    def mount(self, path, size):
        """A file system of its own for a directory; False where this machine does not allow it."""
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "chaos", str(path)]
        with contextlib.suppress(OSError):
            if subprocess.run(command, check=False, capture_output=True).returncode == 0:
                self.mounts.append(path)
                return True
        return False

    @property
    def plan(self):
        return chaos_plan(self.seeds)

    def start(self, index):
        """Start a command in a process group of its own."""
        path = self.root / f"settings-{len(self.logs)}.json"
        settings = {"runs": str(self.runs), "queue": self.workspace.queue, "tracking": self.workspace.tracking}
        settings |= {"workers": self.workers, "data_root": str(self.data), "seeds": self.seeds}
        path.write_text(json.dumps(settings))
        name, value = self.mark.split("=")
        environment = {**os.environ, name: value}
        if self.clock:
            environment |= {"LD_PRELOAD": str(self.faketime), "FAKETIME": self.clock}
        log = self.root / f"log-{len(self.logs)}"
        self.logs.append(log)
        with log.open("w") as output:
            self.commands[index] = subprocess.Popen(
                [sys.executable, str(CELLS), str(path)], env=environment, stdout=output, stderr=output,
                start_new_session=True,
            )  # fmt: skip

    def keep_working(self):
        """Start the commands that have ended, and let the study grow when it is complete."""
        for index, command in enumerate(self.commands):
            if command is None or command.poll() is not None:
                if command is not None and command.returncode == 0:
                    self.seeds += 2
                self.heed()
                self.start(index)

    def await_work(self):
        """Wait until a cell is running, at most some seconds."""
        end = time.monotonic() + STARTED
        while time.monotonic() < end and not any(item.state == "running" and item.owner for item in self.states()):
            self.keep_working()
            time.sleep(0.2)

    def heed(self):
        """Do what the messages of failed cells say, as their reader would."""
        for state in self.states():
            if state.state == "failed":
                self.reasons[re.sub(r"(?<!\w)/\S+", "PATH", state.error)] += 1
                if named := TO_DELETE.search(state.error):
                    with contextlib.suppress(OSError):
                        Path(named[1]).unlink()

    def states(self):
        """States of the cells; none where the queue does not answer."""
        try:
            return cell_states(self.workspace, self.plan)
        except InputError:
            return []

    def finish(self, say):
        """Run commands in peace until the study is complete."""
        for command in filter(None, self.commands):
            with contextlib.suppress(subprocess.TimeoutExpired):
                command.wait(PATIENCE)
        for _ in range(ROUNDS):
            self.heed()
            self.start(0)
            if self.commands[0].wait(PATIENCE) == 0:
                return
        say(self.logs[-1].read_text())

    def processes(self):
        """Living processes of the commands as (commands, workers, helpers)."""
        mains, workers, helpers = [], [], []
        for command in self.commands:
            with contextlib.suppress(psutil.NoSuchProcess):
                if command is None or command.poll() is not None:
                    continue
                main = psutil.Process(command.pid)
                mains.append(main)
                for process in main.children():
                    helpers.append(process)
                    workers += process.children()
        return mains, workers, helpers

    def marked(self):
        """Living processes of this trial, whoever their parent is, without zombies."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if process.pid != os.getpid() and self.mark in process_environment(process):
                    found.append(process)
        return found

    def trials(self):
        return Queue(self.workspace.queue, self.plan.queue, QueueTiming(), lambda _: None).trials()

    def summary(self):
        states = Counter(item.state for item in study_states(self.workspace, self.plan.queue))
        yield f"cells: {', '.join(f'{count} {state}' for state, count in states.items())}; {EPOCHS} epochs each"
        yield f"levels {len(LEVELS)}, seeds {self.seeds}; {len(self.logs)} commands; attempts: {len(self.trials())}"
        for reason, count in self.reasons.most_common():
            yield f"{count} x failed: {reason}"


def process_environment(process):
    """Entries of a process's environment; none of a zombie's."""
    return Path(f"/proc/{process.pid}/environ").read_bytes().decode(errors="replace").split("\0")
