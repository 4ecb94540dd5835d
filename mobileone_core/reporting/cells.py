"""The record as committed with a report, enough to render every table and figure again."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from mobileone_core.errors import InputError
from mobileone_core.reporting.files import kept_text
from mobileone_core.reporting.kinds import ReportKind, kind_of
from mobileone_core.study.plans import AnyPlan, read_plan
from mobileone_core.study.rows import StudyRecord


def record_texts(plan: AnyPlan, record: StudyRecord) -> dict[str, str]:
    """The record's files by name; an empty text is a file that is not there."""
    problems = (" ".join(problem.split()) for problem in record.problems)
    kind = kind_of(plan)
    texts = kind.record_files(plan, record) if isinstance(kind, ReportKind) else kind.texts(plan, record)
    first, *others = texts.items()
    return dict([
        first,
        ("plan.json", plan_text(plan)),
        ("problems.txt", "".join(f"{problem}\n" for problem in problems)),
        *others,
    ])  # fmt: skip


def plan_text(plan: AnyPlan) -> str:
    """plan.json: the declaration, indented."""
    return json.dumps(json.loads(plan.to_json()), indent=2, sort_keys=True) + "\n"


def read_cells(directory: Path) -> tuple[AnyPlan, StudyRecord]:
    """The plan and record of a report directory. Raises InputError where they are missing or not readable."""
    with _reading(directory):
        plan = read_saved_plan(directory)
        kind = kind_of(plan)
        record = kind.read_record(plan, directory) if isinstance(kind, ReportKind) else kind.read(plan, directory)
        return plan, replace(record, problems=tuple(kept_text(directory / "problems.txt").splitlines()))


def read_saved_plan(directory: Path) -> AnyPlan:
    """The plan of a report directory. Raises InputError where it is missing or not readable."""
    with _reading(directory):
        return read_plan((directory / "plan.json").read_text(encoding="utf-8"))


@contextlib.contextmanager
def _reading(directory: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise InputError(f"{directory}: no report here, {Path(error.filename).name} is missing") from error
    except InputError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{directory}: its files cannot be read as one record ({error!r})") from error
