"""Options of the commands that read the record: `mobileone status`, `report` and `ui`."""

from dataclasses import dataclass, field

import tyro

from mobileone_core.cli.options.workspace import CommandOptions, Directory, WorkspaceOptions

Studies = tyro.conf.Positional[tuple[str, ...]]


@dataclass(frozen=True)
class Status(CommandOptions):
    """Show every cell of every study, or of those named."""

    studies: Studies = ()
    """Names of studies; all if none is given."""
    storage: WorkspaceOptions = field(default_factory=WorkspaceOptions)
    repair: bool = False
    """Repair what dead processes left behind; without it nothing is written."""


@dataclass(frozen=True)
class Report(CommandOptions):
    """Write tables, figures and pages from the record, or from reports/ if there is no record."""

    studies: Studies = ()
    """Names of studies; all if none is given."""
    storage: WorkspaceOptions = field(default_factory=WorkspaceOptions)
    reports: Directory = None
    """Reports of default studies; reports/ of this workspace if not given."""


@dataclass(frozen=True)
class Ui(CommandOptions):
    """Serve the record with MLflow's UI on this machine alone."""

    storage: WorkspaceOptions = field(default_factory=WorkspaceOptions)
    port: int = 5000
    """First port to try."""
