"""One study as a command of its own: python drive.py SETTINGS, a JSON file; prints the outcome as JSON."""

import json
import sys
from pathlib import Path

from study_fakes import MEASURE, Engine, QueueTiming, small_plan

from mobileone_core.study.run.progress import Progress
from mobileone_core.study.run.runner import run_study
from mobileone_core.study.workspace import Setup, Workspace
from mobileone_core.training.execution import Execution


def main() -> None:
    settings = json.loads(Path(sys.argv[1]).read_text())
    setup = Setup(
        Workspace.at(Path(settings["runs"]), settings.get("queue", ""), settings.get("tracking", "")),
        workers=settings["workers"],
        execution=Execution("cpu"),
        data_root=Path(settings["data_root"]) if settings.get("data_root") else None,
        engine=Engine(QueueTiming(**settings.get("timing", {})), settings["train"], settings.get("measure", MEASURE)),
    )
    outcome = run_study(small_plan(**settings["plan"]), setup, Progress())
    print(json.dumps({"states": [item.state for item in outcome.states], "interrupted": outcome.interrupted}))


if __name__ == "__main__":
    main()
