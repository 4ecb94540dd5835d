"""A study's command as an array of Slurm jobs, submitted by submitit; each plans, works, and resumes when requeued."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mobileone_core.errors import InputError, require_integer
from mobileone_core.study.plan import Plan
from mobileone_core.study.run.progress import Progress
from mobileone_core.study.run.runner import UNDONE, Outcome, SignalGuard
from mobileone_core.study.state import cell_states
from mobileone_core.study.workspace import Workspace, one_line

if TYPE_CHECKING:
    from submitit.helpers import DelayedSubmission

POLL = 5.0  # seconds between looks at queue and jobs
REQUEUES = 1000  # times that a job may reach its time limit
WARNING = 120  # seconds before the time limit at which a job is requeued


@dataclass(frozen=True)
class SlurmOptions:
    """Jobs of --launcher slurm."""

    slurm_jobs: int = 1  # Jobs of the array; each runs this command, with --workers cells side by side.
    slurm_time: int = 240  # Time limit of a job in minutes; it is requeued before, and resumes.
    slurm_cpus: int = 1  # Cores per job.
    slurm_gpus: int = 0  # GPUs per job.
    slurm_partition: str = ""  # Partition; the cluster's default if not given.
    slurm_account: str = ""  # Account that is charged.
    slurm_container: str = ""  # Image that the jobs run in (--container-image of srun, by pyxis).
    slurm_cancel: bool = False  # Ctrl-C cancels the jobs; without it they go on.

    def parameters(self, name: str) -> dict[str, Any]:
        """The options as submitit names them. Raises InputError."""
        for option in ("jobs", "time", "cpus"):
            require_integer(f"slurm_{option}", getattr(self, f"slurm_{option}"))
        require_integer("slurm_gpus", self.slurm_gpus, 0)
        fixed: dict[str, Any] = {"job_name": name, "time": self.slurm_time, "cpus_per_task": self.slurm_cpus}
        fixed |= {"signal_delay_s": WARNING, "additional_parameters": {"requeue": True}}
        given = {"partition": self.slurm_partition, "account": self.slurm_account, "gpus_per_node": self.slurm_gpus}
        given["srun_args"] = [f"--container-image={self.slurm_container}"] * bool(self.slurm_container)
        return fixed | {option: value for option, value in given.items() if value}


@dataclass(frozen=True)
class StudyJob:
    """A job: the study's command, here as a process of its own. Called with the number of the job."""

    command: tuple[str, ...]

    def __call__(self, number: int) -> int:  # noqa: ARG002
        """Run the command; returns its exit status."""
        return subprocess.run([sys.executable, *self.command], check=False).returncode

    def checkpoint(self, number: int) -> "DelayedSubmission":
        """The job that submitit submits again before the time limit: the same command, which continues."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, number)


def launch(
    plan: Plan, workspace: Workspace, options: SlurmOptions, command: Sequence[str], display: Progress
) -> Outcome:
    """Submit a study's command as an array of jobs and show its cells until all jobs have ended.

    Ctrl-C leaves the jobs running, or cancels them with slurm_cancel; the outcome is interrupted.

    command: script and arguments. Raises InputError if Slurm or submitit cannot be used, or refuses the options.
    """
    guard, logs, fate = SignalGuard(), workspace.runs / "slurm", ""
    with guard.installed():
        job = _submit(logs, options, options.parameters(plan.study.name), command)
        display.say(f"Slurm job {job}: {options.slurm_jobs} x {plan.study.name}; logs in {logs}")
        display.begin(cell_states(workspace, plan), options.slurm_jobs)
        try:
            while _is_active(job):
                time.sleep(POLL)
                guard.check()
                display.update(cell_states(workspace, plan))
        except KeyboardInterrupt:
            fate = f"goes on; scancel {job} ends it"
            if options.slurm_cancel:
                subprocess.run(["scancel", job], check=False)
                fate = "is cancelled"
        finally:
            display.end()
    is_interrupted, states = bool(fate), cell_states(workspace, plan)
    if not is_interrupted and any(item.state in UNDONE for item in states):
        fate = f"has ended; see its logs in {logs}"
    notes = (f"Slurm job {job} {fate}",) if fate else ()
    for line in notes:
        display.say(line)
    return Outcome(tuple(states), is_interrupted, notes)


def _submit(logs: Path, options: SlurmOptions, parameters: dict[str, Any], command: Sequence[str]) -> str:
    """Id of the submitted job, without the index in its array."""
    try:
        from submitit import SlurmExecutor
        from submitit.core.utils import FailedJobError, FailedSubmissionError
    except ImportError as error:
        raise InputError("launcher: slurm needs submitit; pip install 'mobileone-ablations[cluster]'") from error
    try:
        executor = SlurmExecutor(logs, max_num_timeout=REQUEUES)
    except RuntimeError as error:
        raise InputError.of("launcher", "slurm", "srun is not installed here") from error
    try:
        executor.update_parameters(**parameters)
        jobs = executor.map_array(StudyJob(tuple(command)), range(options.slurm_jobs))
    except (FailedJobError, FailedSubmissionError, subprocess.CalledProcessError, OSError) as error:
        raise InputError(f"launcher: Slurm refused the jobs: {one_line(error)}") from error
    return str(jobs[0].job_id).partition("_")[0]


def _is_active(job: str) -> bool:
    """Whether a job, or one of its array, waits or runs; a controller that does not answer counts as yes."""
    with contextlib.suppress(OSError):
        listed = subprocess.run(["squeue", "--noheader", "--jobs", job], check=False, capture_output=True, text=True)
        return "Invalid job id" not in listed.stderr if listed.returncode else bool(listed.stdout.strip())
    return True
