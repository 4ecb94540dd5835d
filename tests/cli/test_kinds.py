"""A kind of study that the package does not have is planned, run and reported once it is registered."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mobileone_core.cli import console, main
from mobileone_core.fields import option
from mobileone_core.reporting import report as reports
from mobileone_core.reporting.document import Column, Document, Figure, Table
from mobileone_core.reporting.figures.style import Drawing
from mobileone_core.study import kinds
from mobileone_core.study.declaration import Declaration
from mobileone_core.study.kinds import read_plan
from mobileone_core.study.options import PlanRequest, StudyOptions, spec_options
from mobileone_core.study.plan import Plan, study_from_json
from mobileone_core.study.rows import StudyRecord


@dataclass(frozen=True)
class CountingStudy(Declaration):
    """A study that counts to a number and trains nothing."""

    end: int = option(3, "The last number.")
    metric: str = field(default="test/count", init=False)


@dataclass(frozen=True)
class CountingPlan(Plan):
    """The plan of a CountingStudy: nothing to run."""

    kind = "counting"

    study: CountingStudy

    @property
    def queue(self):
        return self.study.name if self.default else f"{self.study.name}-{self.study.end}"

    def to_json(self):
        content = {"name": self.study.name, "question": self.study.question, "factors": [], "end": self.study.end}
        return json.dumps({"plan": self.kind, "study": content, "default": self.default})

    @classmethod
    def from_content(cls, content):
        return cls(study_from_json(CountingStudy, content["study"]), default=content["default"])

    def overview(self, states):
        return [f"{self.study.name}: from 1 to {self.study.end}{states}"]


class CountingOptions(StudyOptions):
    """The command line of a CountingStudy."""

    trains = False

    @dataclass(frozen=True)
    class Presets:
        """No presets."""

    def presets(self):
        return self.Presets()

    def groups(self, presets, *, for_help):
        del presets, for_help
        return {"counting": spec_options("How far.", self.study, set(self.study.__dataclass_fields__) - {"end"})}

    def request(self, presets, line):
        del presets
        study = CountingStudy(self.study.name, self.study.question, (), end=line.counting.end)
        return PlanRequest(CountingPlan(study, default=study == self.study))


class CountingReport:
    """How a CountingPlan is reported."""

    version = 1

    def suffix(self, plan):
        return str(plan.study.end)

    def setting(self, plan):
        return f"to {plan.study.end}"

    def record_files(self, plan, record):
        del plan, record
        return {"cells.csv": "key\n"}

    def read_record(self, plan, directory):
        del plan, directory
        return StudyRecord()

    def analyse(self, plan, record):
        del record
        return plan

    def document(self, plan):
        table = Table((Column("number"),), tuple((str(number + 1),) for number in range(plan.study.end)))
        figure = Figure("figure", "a dot")
        return Document(plan.study.name, plan.study.question, "a test", self.setting(plan), "Done.", table, figure)

    def figures(self, plan):
        del plan
        return {"figure": Drawing(b"png", b"<svg/>")}


STUDY = CountingStudy("counting", "How far?", ())


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setitem(kinds.OPTIONS, CountingStudy, CountingOptions)
    monkeypatch.setitem(kinds.PLANS, CountingPlan.kind, CountingPlan)
    monkeypatch.setattr(reports, "KINDS", {**reports.KINDS, CountingPlan.kind: CountingReport()})


def run(command, *arguments):
    with pytest.raises(SystemExit) as ended:
        command(*arguments)
    return ended.value.code


@pytest.mark.slow
@pytest.mark.usefixtures("registered")
def test_it_is_planned_run_and_reported(tmp_path, capsys):
    places = ["--runs", str(tmp_path / "runs"), "--reports", str(tmp_path / "reports")]
    assert run(main, STUDY, ["--plan", *places]) == 0
    assert capsys.readouterr().out.startswith("counting: from 1 to 3")
    assert not (tmp_path / "runs").exists()
    assert run(main, STUDY, ["--end", "5", *places]) == 0
    page = Path(capsys.readouterr().out.split("report: ")[-1].strip())
    assert page.parent.name == "counting-5"
    assert "| 5 |" in page.read_text()
    plan = read_plan((page.parent / "plan.json").read_text())
    assert (plan.study.end, plan.queue, plan.default) == (5, "counting-5", False)
    assert run(console, ["report", "counting", *places]) == 0
    assert capsys.readouterr().out.strip() == str(page)


@pytest.mark.usefixtures("registered")
def test_its_options_are_explained(capsys):
    assert run(main, STUDY, ["--help"]) == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "--end INT The last number. (default: 3)" in text
    assert not re.search(r"--workers \S*INT", text)  # of the launcher's help alone
