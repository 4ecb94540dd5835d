"""The faults of a chaos trial, each a method that strikes once and says whom it hit; heal() undoes what lasts."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections import Counter

import psutil
import torch
from chaos_cells import DATA, TIMING, is_real

FAULTS = (
    "kill worker", "terminate worker", "stop worker", "kill command", "terminate command", "stop command",
    "kill group", "terminate group", "kill helper", "kill mlflow", "kill postgresql", "full disk",
    "read-only checkpoints", "truncated checkpoint", "garbage checkpoint", "old checkpoint", "clock back",
    "out of memory", "nan", "vanished data",
)  # fmt: skip
WAIT = 20.0  # seconds to wait for a victim


class Faults:
    def __init__(self, site, generator):
        self.site, self.random, self.count = site, generator, Counter()
        self.lasting = []  # (when it ends, how)

    def skipped(self):
        """The faults that this trial cannot have, with the reason."""
        site, reasons = self.site, {}
        if not site.mlflow:
            reasons["kill mlflow"] = "the record is a file"
        if not site.postgres:
            reasons["kill postgresql"] = "the queue is a file"
        if not site.is_small:
            reasons["full disk"] = "no tmpfs can be mounted here"
        if not site.has_checkpoint_disk and os.geteuid() == 0:
            reasons["read-only checkpoints"] = "no tmpfs can be mounted here, and root may write everywhere"
        if not site.faketime:
            reasons["clock back"] = "libfaketime is not installed"
        return reasons

    def strike(self, name):
        """Let a fault happen; says to whom."""
        self.count[name] += 1
        return getattr(self, name.replace(" ", "_").replace("-", "_"))() or "nobody there"

    def heal(self, now=None):
        """End the lasting faults whose time is over; all, each at its time, without a time."""
        for item in list(self.lasting):
            when, end = item
            if now is None:
                time.sleep(max(0.0, when - time.monotonic()))
            if now is None or when <= now:
                self.lasting.remove(item)
                end()

    def last(self, seconds, end):
        self.lasting.append((time.monotonic() + seconds, end))

    def victim(self, kind):
        """A living process: kind 0 a command, 1 a worker, 2 a helper."""
        end = time.monotonic() + WAIT
        while time.monotonic() < end:
            found = self.site.processes()[kind]
            if found:
                return self.random.choice(sorted(found, key=lambda item: item.pid))
            time.sleep(0.1)
        return None

    def signal(self, kind, number):
        process = self.victim(kind)
        if process is None:
            return ""
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)
        return f"process {process.pid}"

    def kill_worker(self):
        return self.signal(1, signal.SIGKILL)

    def terminate_worker(self):
        return self.signal(1, signal.SIGTERM)

    def stop_worker(self):
        return self.stop(1, TIMING.grace + 3.0)

    def stop_command(self):
        return self.stop(0, self.random.uniform(1.0, TIMING.grace + 3.0))

    def stop(self, kind, seconds):
        process = self.victim(kind)
        if process is None:
            return ""

        def wake():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)

        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGSTOP)
        self.last(seconds, wake)
        return f"process {process.pid} for {seconds:.0f} s"

    def kill_command(self):
        return self.signal(0, signal.SIGKILL)

    def terminate_command(self):
        return self.signal(0, signal.SIGTERM)

    def kill_helper(self):
        return self.signal(2, signal.SIGKILL)

    def kill_group(self):
        return self.group(signal.SIGKILL)

    def terminate_group(self):
        return self.group(signal.SIGTERM)

    def group(self, number):
        process = self.victim(0)
        if process is None:
            return ""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        return f"group {process.pid}"

    def kill_mlflow(self):
        seconds = self.random.uniform(1.0, 8.0)
        self.site.mlflow.kill()
        self.last(seconds, self.site.mlflow.start)
        return f"away for {seconds:.0f} s"

    def kill_postgresql(self):
        seconds = self.random.uniform(0.5, 4.0)
        self.site.postgres.kill()
        time.sleep(seconds)  # nothing answers meanwhile
        self.site.postgres.start()
        return f"away for {seconds:.0f} s"

    def full_disk(self):
        """Fill the disk to the last byte for some seconds."""
        filler = self.site.runs / "filler"

        def fill():
            with contextlib.suppress(OSError), filler.open("ab", buffering=0) as file:
                while True:
                    file.write(bytes(4096))

        fill()
        seconds = self.random.uniform(1.0, 4.0)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(0.1)
            fill()
        filler.unlink()
        return f"for {seconds:.0f} s"

    def read_only_checkpoints(self):
        folder = self.site.runs / "checkpoints"
        if self.site.has_checkpoint_disk:
            change = [["mount", "-o", f"remount,{mode}", str(folder)] for mode in ("ro", "rw")]
        else:
            change = [["chmod", "-R", mode, str(folder)] for mode in ("a-w", "u+w")]
        for _ in range(50):  # it is busy while a file is being written
            if subprocess.run(change[0], check=False, capture_output=True).returncode == 0:
                break
            time.sleep(0.02)
        else:
            return "busy"
        seconds = self.random.uniform(1.0, 4.0)
        self.last(seconds, lambda: subprocess.run(change[1], check=True))
        return f"for {seconds:.0f} s"

    def truncated_checkpoint(self):
        return self.break_checkpoint(lambda path: os.truncate(path, path.stat().st_size // 2))

    def garbage_checkpoint(self):
        return self.break_checkpoint(lambda path: path.write_bytes(self.random.randbytes(2000)))

    def old_checkpoint(self):
        """A checkpoint as an earlier schema wrote it: the parts are there, under other names."""

        def write(path):
            if path.read_bytes()[:2] == b"PK":
                torch.save({"epoch": 1, "state_dict": {}, "history": [{"epoch": 1, "metrics": {}}]}, path)
            else:
                path.write_text(json.dumps({"state": "", "epochs": []}))

        return self.break_checkpoint(write)

    def break_checkpoint(self, change):
        """Kill the worker of a cell that has a checkpoint, and change the file before another one reads it."""
        end = time.monotonic() + WAIT
        while time.monotonic() < end:
            running = [item for item in self.site.states() if item.state == "running" and item.owner and item.epoch]
            for item in self.random.sample(running, len(running)):
                path = self.site.workspace.checkpoints(self.site.plan.queue, item.key) / "last.ckpt"
                with contextlib.suppress(OSError, psutil.NoSuchProcess):
                    os.kill(item.owner.pid, signal.SIGKILL)
                    change(path)
                    return f"{item.label}"
            time.sleep(0.1)
        return ""

    def clock_back(self):
        """All processes end, as when the machine goes down; those that follow live hours earlier, for a while."""
        hours, seconds = self.random.choice((1, 5, 26)), self.random.uniform(10.0, 20.0)
        self.restart(signal.SIGKILL, f"-{hours}h")
        self.last(seconds, lambda: self.restart(signal.SIGTERM, ""))
        return f"{hours} h for {seconds:.0f} s"

    def restart(self, number, clock):
        for process in self.site.processes()[0]:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
                os.killpg(process.pid, signal.SIGCONT)  # a stopped process would never end
        for command in filter(None, self.site.commands):
            command.wait(60)
        self.site.clock = clock

    def out_of_memory(self):
        return self.infect("memory")

    def nan(self):
        return self.infect("nan")

    def infect(self, fault):
        """Put a fault into a cell that is not complete."""
        specs = {cell.key: cell.spec for cell in self.site.plan.cells}
        undone = [item for item in self.site.states() if item.state in ("waiting", "running", "missing")]
        undone = [item for item in undone if not is_real(specs[item.key])]
        if not undone:
            return ""
        state = self.random.choice(undone)
        (self.site.data / f"fault-{state.key}").write_text(fault)
        return state.label

    def vanished_data(self):
        path = self.site.data / DATA
        aside = path.with_suffix(".away")
        with contextlib.suppress(FileNotFoundError):
            shutil.move(path, aside)
        seconds = self.random.uniform(0.3, 1.5)
        self.last(seconds, lambda: shutil.move(aside, path))
        return f"for {seconds:.1f} s"
