"""Where and how a cell runs, as the tags of its run: device, processor, versions, git revision."""

import functools
import importlib.metadata
import platform
import subprocess
from pathlib import Path

from mobileone_core.training.execution import Execution

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("torch", "torchvision", "pytorch-lightning", "optuna", "mlflow")
VERSION = "version."  # prefix of the tags that hold a package's version
RUN_TAGS = ("device", "processor", "system", "threads", "execution", "git")  # repeated in a table's footnote
ENTRY_TAGS = ("runtime", "runtime_version", "provider", "precision", "layout", "unmeasured")  # of measured entries only
FOLDER_TAGS = ("data_set",)  # of cells on an image folder only


def environment_tags(execution: Execution) -> dict[str, str]:
    """Tags of a run: RUN_TAGS, and one version.<package> per package that affects the results."""
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
    """Name of a device: "cpu", or a GPU with its model, "cuda:0 NVIDIA H100"."""
    if device == "cpu":
        return device
    import torch

    if device == "auto" and not torch.cuda.is_available():
        return "cpu"
    index = torch.device("cuda" if device == "auto" else device).index or 0
    return f"cuda:{index} {torch.cuda.get_device_name(index)}" if index < torch.cuda.device_count() else device


@functools.cache
def processor() -> str:
    """Model of the processor."""
    if platform.system() == "Darwin":
        return _output_of("sysctl", "-n", "machdep.cpu.brand_string") or platform.machine()
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


@functools.cache
def versions() -> dict[str, str]:
    """One version.<package> tag for Python, this project and each of PACKAGES."""
    packages = {"mobileone": "mobileone-ablations", **{name: name for name in PACKAGES}}
    tags = {VERSION + name: importlib.metadata.version(package) for name, package in packages.items()}
    return {VERSION + "python": platform.python_version(), **tags}


@functools.cache
def git_revision() -> str:
    """Commit of the checkout, with -dirty if the code differs from it; empty if this is not a checkout."""
    git = ("git", "-C", str(ROOT))
    if _output_of(*git, "rev-parse", "--show-toplevel") != str(ROOT):
        return ""
    changed = _output_of(*git, "status", "--porcelain", "--", "mobileone_core", "studies", "pyproject.toml")
    return _output_of(*git, "rev-parse", "HEAD") + ("-dirty" if changed else "")


def _output_of(*command: str) -> str:
    """Standard output of a command; empty if it fails or is not installed."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
