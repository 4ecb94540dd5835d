"""A small search as a command of its own: python search_drive.py SETTINGS, a JSON file."""

import json
import sys
from pathlib import Path

from search_fakes import SEARCH_ENGINE, small_search
from study_fakes import Lines

from mobileone_core.study.run.runner import run_plan
from mobileone_core.study.workspace import Setup, Workspace
from mobileone_core.training.execution import Execution


def main() -> None:
    settings = json.loads(Path(sys.argv[1]).read_text())
    workspace = Workspace.at(Path(settings["runs"]))
    setup = Setup(workspace, settings["workers"], Execution("cpu"), Path(settings["data_root"]), engine=SEARCH_ENGINE)
    plan, outcome = run_plan(small_search(**settings["plan"]), setup, lambda _: Lines())
    print(json.dumps({"complete": outcome.is_complete, "plan": plan.to_json()}))


if __name__ == "__main__":
    main()
