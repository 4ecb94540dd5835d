"""The commands `mobileone status` and `mobileone ui`."""

from mobileone_core.cli.guard import COMPLETE
from mobileone_core.cli.options.record import Status, Ui


def status(options: Status) -> int:
    """Print every cell, after a repair if one is requested."""
    from mobileone_core.study.status import status_lines

    workspace = options.storage.workspace
    if options.repair:
        from mobileone_core.study.run.planner import repair

        print("\n".join(repair(workspace)) or "nothing to repair")
    print("\n".join(status_lines(workspace, options.studies)))
    return COMPLETE


def ui(options: Ui) -> int:
    """Serve the record until interrupted."""
    from mobileone_core.study.record.ui import serve

    return serve(options.storage.workspace, options.port)
