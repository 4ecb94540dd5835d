"""Where and how a cell runs, as the tags of its run: device, processor, versions, git revision."""

import functools
import importlib.metadata
import platform
import subprocess
from pathlib import Path

from mobileone_core.training.execution import Execution

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {
    "mobileone": "mobileone-ablations",
    "torch": "torch",
    "torchvision": "torchvision",
    "pytorch-lightning": "pytorch-lightning",
    "optuna": "optuna",
    "mlflow": "mlflow",
}
VERSION = "version."
OF_ARM = (
    "runtime",
    "runtime_version",
    "provider",
    "precision",
    "layout",
    "unmeasured",
)  # what a measured row says of itself alone
SAID = ("device", "processor", "system", "threads", "execution", "git")  # what a table's footnote repeats


def environment_tags(execution: Execution) -> dict[str, str]:
    """The tags: SAID, and a version.<package> for every package that decides what is computed."""
    switches = [name for name in ("channels_last", "compile") if getattr(execution, name)]
    switches.append(f"{execution.blocks} blocks")
    if execution.processes > 1:
        switches.append(f"{execution.processes} processes")
        switches += ["sync_batchnorm"] * execution.sync_batchnorm
    return {
        "device": device_name(execution.device),
        "processor": processor(),
        "system": f"{platform.system()} {platform.machine()}",
        "threads": str(execution.threads),
        "execution": ", ".join(switches),
        "git": git_revision(),
        **versions(),
    }


def device_name(device: str) -> str:
    """cpu, or a GPU with its model."""
    if device == "cpu":
        return device
    import torch

    if device == "auto" and not torch.cuda.is_available():
        return "cpu"
    index = torch.device("cuda" if device == "auto" else device).index or 0
    return f"cuda:{index} {torch.cuda.get_device_name(index)}" if index < torch.cuda.device_count() else device


@functools.cache
def processor() -> str:
    """The processor's model."""
    if platform.system() == "Darwin":
        return _output_of("sysctl", "-n", "machdep.cpu.brand_string") or platform.machine()
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


@functools.cache
def versions() -> dict[str, str]:
    """version.<package> for Python and the packages that decide what is computed."""
    found = {VERSION + name: importlib.metadata.version(package) for name, package in PACKAGES.items()}
    return {VERSION + "python": platform.python_version(), **found}


@functools.cache
def git_revision() -> str:
    """The checkout's commit, with -dirty where code differs from it; empty where this is no checkout."""
    git = ("git", "-C", str(ROOT))
    if _output_of(*git, "rev-parse", "--show-toplevel") != str(ROOT):
        return ""
    changed = _output_of(*git, "status", "--porcelain", "--", "mobileone_core", "studies", "pyproject.toml")
    return _output_of(*git, "rev-parse", "HEAD") + ("-dirty" if changed else "")


def _output_of(*command: str) -> str:
    """What a command prints; empty where it fails or is not there."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
