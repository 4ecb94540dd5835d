"""A report as plain text for a terminal. No torch here."""

from mobileone_core.reporting.kinds import kind_of
from mobileone_core.study.plans import AnyPlan
from mobileone_core.study.rows import StudyRecord


def terminal_table(plan: AnyPlan, record: StudyRecord) -> str:
    """Question, tables, verdict, and what is missing or wrong: the same texts as the page."""
    return kind_of(plan).terminal(plan, record)
