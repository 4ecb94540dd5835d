"""Directories of the workspace: of the checkout that holds this package, else of the current directory."""

from pathlib import Path


def workspace_directory() -> Path:
    """The directory with studies/, runs/ and reports/."""
    checkout = Path(__file__).resolve().parents[2]
    return checkout if (checkout / "studies").is_dir() else Path.cwd()


def runs_directory() -> Path:
    """The default directory of queue, record and checkpoints."""
    return workspace_directory() / "runs"


def reports_directory() -> Path:
    """The directory of the reports of default studies."""
    return workspace_directory() / "reports"
