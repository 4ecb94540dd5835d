"""A study as an array of jobs of a real Slurm: Debian's packages slurmctld and slurmd, one node."""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mobileone_core.cli.options.study import gpu_names
from mobileone_core.errors import InputError
from mobileone_core.study.process import slurm_job
from mobileone_core.study.run.slurm import SlurmOptions

STUDY = Path(__file__).parents[3] / "studies" / "branch_count.py"
OPTIONS = ["--k", "1", "2", "4", "--seeds", "1", "--epochs", "8", "--workers", "1", "--launcher", "slurm"]
PATIENCE = 240.0  # seconds
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}
SlurmUser=root
AuthType=auth/none
CredType=cred/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
KillWait=20
SlurmctldPidFile={directory}/slurmctld.pid
SlurmdPidFile={directory}/slurmd.pid
SlurmctldPort={controller}
SlurmdPort={node}
StateSaveLocation={directory}
SlurmdSpoolDir={directory}/spool
SlurmctldLogFile={directory}/slurmctld.log
SlurmdLogFile={directory}/slurmd.log
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
NodeName={host} CPUs=4
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Starts Slurm; yields a function that runs one of its commands."""
    path = f"{os.defpath}:/usr/sbin"
    missing = [name for name in ("slurmctld", "slurmd", "srun") if not shutil.which(name, path=path)]
    if missing:
        pytest.skip(f"{', '.join(missing)}: not installed; apt-get install slurmctld slurmd")
    if os.geteuid():
        pytest.skip("slurmd must be started by root")
    directory = tmp_path / "slurm"
    (directory / "spool").mkdir(parents=True)
    path = directory / "slurm.conf"
    host = socket.gethostname().partition(".")[0]
    path.write_text(CONFIGURATION.format(host=host, directory=directory, controller=free_port(), node=free_port()))
    monkeypatch.setenv("SLURM_CONF", str(path))

    def ask(*command):
        return subprocess.run(command, check=False, capture_output=True, text=True).stdout

    commands = ([f"/usr/sbin/{name}", "-D"] for name in ("slurmctld", "slurmd"))
    daemons = [subprocess.Popen(command, stderr=subprocess.DEVNULL) for command in commands]
    until(lambda: "idle" in ask("sinfo", "--noheader"))
    yield ask
    ask("scancel", "--user", "root")
    for daemon in reversed(daemons):
        daemon.terminate()
        daemon.wait()


def until(condition):
    end = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < end, "it never came"
        time.sleep(0.2)
    return found


def study(runs, *options):
    command = [sys.executable, str(STUDY), *OPTIONS, "--runs", str(runs), *options]
    environment = {**os.environ, "PYTHONPATH": str(STUDY.parents[1])}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def status(runs):
    code = "from mobileone_core.cli import console; console()"
    command, wide = [sys.executable, "-c", code, "status", "--runs", str(runs)], {**os.environ, "COLUMNS": "200"}
    return subprocess.run(command, check=False, capture_output=True, text=True, env=wide).stdout


@pytest.mark.slow
@pytest.mark.long
def test_three_cells_one_of_them_preempted_are_finished_once(slurm, tmp_path):
    runs = tmp_path / "runs"
    command = study(runs, "--slurm-jobs", "2", "--slurm-time", "30")
    until(lambda: status(runs).count(" running ") == 2)
    job = slurm("squeue", "--noheader", "--format", "%F").split()[0]
    until(lambda: f":{job}_0" in status(runs))  # named a moment after the cell is claimed
    slurm("scontrol", "requeue", f"{job}_0")
    out, error = command.communicate(timeout=PATIENCE)
    assert command.returncode == 0, (out, error)
    assert f"Slurm job {job}: 2 x branch_count" in out
    text = status(runs)
    assert sum(" complete " in line for line in text.splitlines()) >= 3, text
    assert "finished runs of one cell" not in text
    logs = (runs / "slurm" / f"{job}_0_0_log.out").read_text()
    assert logs.count("Starting with JobEnvironment") == 2  # it was begun again


@pytest.mark.slow
def test_ctrl_c_cancels_the_jobs_if_it_is_to(slurm, tmp_path):
    command = study(tmp_path / "runs", "--slurm-jobs", "2", "--slurm-cancel")
    until(lambda: slurm("squeue", "--noheader"))
    time.sleep(2.0)  # it is watching by then
    command.send_signal(2)
    out, error = command.communicate(timeout=PATIENCE)
    assert command.returncode == 130, (out, error)
    assert "is cancelled" in out
    until(lambda: not slurm("squeue", "--noheader"))


def test_options_are_those_of_submitit():
    options = SlurmOptions(slurm_jobs=3, slurm_partition="gpu", slurm_gpus=2, slurm_account="a", slurm_container="img")
    assert options.parameters("k") == {
        "job_name": "k",
        "time": 240,
        "cpus_per_task": 1,
        "signal_delay_s": 120,
        "additional_parameters": {"requeue": True},
        "partition": "gpu",
        "account": "a",
        "gpus_per_node": 2,
        "srun_args": ["--container-image=img"],
    }
    with pytest.raises(InputError, match="slurm_jobs: 0 is not allowed"):
        SlurmOptions(slurm_jobs=0).parameters("k")


def test_a_process_knows_its_job(monkeypatch):
    for name in ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"):
        monkeypatch.delenv(name, raising=False)
    assert slurm_job() == ""
    monkeypatch.setenv("SLURM_JOB_ID", "13")
    assert slurm_job() == "13"
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "12")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "1")
    assert slurm_job() == "12_1"


def test_a_job_sees_its_own_gpus_alone(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpu_names("auto") == []


def test_without_slurm_it_is_one_line(tmp_path):
    command = study(tmp_path / "runs")
    if shutil.which("srun"):
        command.kill()
        command.communicate()
        pytest.skip("Slurm is installed here")
    _, error = command.communicate(timeout=PATIENCE)
    assert (command.returncode, error) == (2, "error: launcher: 'slurm' is not allowed; srun is not installed here\n")
