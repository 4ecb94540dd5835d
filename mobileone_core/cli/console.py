"""The command `mobileone`: what spans studies."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

import tyro

from mobileone_core.cli.guard import COMPLETE, guarded
from mobileone_core.cli.options.evaluate import Evaluate
from mobileone_core.cli.options.export import Export
from mobileone_core.cli.options.latency import Latency
from mobileone_core.cli.options.workspace import Directory, Places


@dataclass(frozen=True)
class Status:
    """Show every cell of every study, or of those named."""

    studies: tyro.conf.Positional[tuple[str, ...]] = ()
    """Names of studies; all where none is given."""
    places: Places = field(default_factory=Places)
    repair: bool = False
    """Mend what dead processes left behind; without it nothing is written."""

    def __call__(self) -> int:
        from mobileone_core.study.status import status_lines

        if self.repair:
            from mobileone_core.study.run.repair import repair

            print("\n".join(repair(self.places.workspace)) or "nothing to mend")
        print("\n".join(status_lines(self.places.workspace, self.studies)))
        return COMPLETE


@dataclass(frozen=True)
class Report:
    """Write tables, figures and pages from the record, or from reports/ where there is no record."""

    studies: tyro.conf.Positional[tuple[str, ...]] = ()
    """Names of studies; all where none is given."""
    places: Places = field(default_factory=Places)
    reports: Directory = None
    """Reports of default studies; reports/ of this workspace where not given."""

    def __call__(self) -> int:
        from mobileone_core.cli.commands.report import report

        return report(self.places.workspace, self.studies, self.reports)


@dataclass(frozen=True)
class Ui:
    """Serve the record with MLflow's UI on this machine alone."""

    places: Places = field(default_factory=Places)
    port: int = 5000
    """First port to try."""

    def __call__(self) -> int:
        from mobileone_core.study.record.ui import serve

        return serve(self.places.workspace, self.port)


def console(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit: 0 done, 2 bad input, 130 interrupted."""
    given = sys.argv[1:] if arguments is None else arguments
    command = tyro.extras.subcommand_cli_from_dict(
        {"status": Status, "report": Report, "ui": Ui, "evaluate": Evaluate, "export": Export, "latency": Latency},
        args=given,
        prog="mobileone",
        description="What spans the studies of this workspace.",
        config=(tyro.conf.FlagCreatePairsOff, tyro.conf.OmitArgPrefixes),
    )
    sys.exit(guarded(command))
