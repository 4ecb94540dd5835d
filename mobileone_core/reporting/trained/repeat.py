"""What it costs to repeat a report on another data set, and the command that does."""

import shlex

from mobileone_core.reporting.document import Paragraph, Section
from mobileone_core.reporting.environment import tag_values
from mobileone_core.reporting.trained.result import TrainedResult
from mobileone_core.study.factor import level_text
from mobileone_core.study.grid import GridPlan


def repeat_section(result: TrainedResult) -> Section:
    """The measured cost of all cells and one command; empty for a plan that one data set's defaults do not give."""
    plan = result.plan
    if not plan.follows_data or not plan.study.metric.startswith("test/"):
        return Section("Repeating it", ())
    rows = [*result.rows.values(), *result.teachers.values()]
    times = [row.metrics["time/train_seconds"] for row in rows if "time/train_seconds" in row.metrics]
    counts = f"{len(rows)} cells" + (f", {len(result.teachers)} of them teachers" if result.teachers else "")
    cost = f"{counts}, trained in {sum(times) / 3600:.1f} hours, the sum of the cells' own training times"
    mean = f"{sum(times) / len(times):.0f} s per cell" if times else "times were not recorded"
    threads = tag_values(rows, "threads")
    where = f" with {threads} thread{'' if threads == '1' else 's'} each" if threads else ""
    text = f"{cost} ({mean}){where}; machines that did other work at the same time took longer."
    return Section("Repeating it", (Paragraph(text), Paragraph(f"`{command(plan)}`")))


def command(plan: GridPlan) -> str:
    """The command line that plans exactly these cells."""
    study = plan.study
    words = ["python", f"studies/{study.name}.py", "--data", study.data, "--data-root", "DIR"]
    for factor in study.factors:
        words += [f"--{factor.name.replace('_', '-')}", *(shlex.quote(level_text(level)) for level in factor.levels)]
    words += ["--seeds", str(study.seeds)]
    words += ["--first-seed", str(study.first_seed)] if study.first_seed else []
    return " ".join([*words, "--reports", "reports"])
