"""Where the workspace lies: the checkout that holds this package, else the current directory."""

from pathlib import Path


def home() -> Path:
    """The directory with studies/, runs/ and reports/."""
    checkout = Path(__file__).resolve().parents[2]
    return checkout if (checkout / "studies").is_dir() else Path.cwd()


def runs_home() -> Path:
    return home() / "runs"


def reports_home() -> Path:
    return home() / "reports"
