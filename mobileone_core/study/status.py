"""State of the cells of studies and plans, as text."""

from collections.abc import Sequence

from mobileone_core.errors import InputError
from mobileone_core.study.plan import Plan
from mobileone_core.study.run.progress import summary, value_text
from mobileone_core.study.state import CellState, study_names, study_states
from mobileone_core.study.workspace import Workspace, redacted

HEADS = ("cell", "what", "state", "attempt", "epoch", "metric", "host", "run")


def status_lines(workspace: Workspace, studies: Sequence[str] = ()) -> list[str]:
    """Every cell of the studies named, or of all, by queue. Raises InputError for a study that was never planned."""
    queues = study_names(workspace)
    for name in studies:
        if not any(_is_of(queue, name) for queue in queues):
            raise InputError.of("study", name, f"planned are {', '.join(queues) or 'none yet'}")
    if not queues:
        return [f"no study was planned in {redacted(workspace.queue)}"]
    lines: list[str] = []
    for queue in (item for item in queues if not studies or any(_is_of(item, name) for name in studies)):
        states = study_states(workspace, queue)
        lines += [f"{queue}: {summary(states, None) or 'no cells'}", *_table(states), ""]
    return lines[:-1]


def _is_of(queue: str, study: str) -> bool:
    return queue == study or queue.startswith(f"{study}-")


def plan_lines(plan: Plan, states: Sequence[CellState]) -> list[str]:
    """What a plan runs, then every cell and its state."""
    return [*plan.overview(summary(states, None)), *_table(states)]


def _table(states: Sequence[CellState]) -> list[str]:
    rows = [HEADS, *(_row(item) for item in states)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADS))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    errors = [f"{item.key} failed: {item.error}" for item in states if item.state == "failed"]
    return [*lines, *errors]


def _row(item: CellState) -> tuple[str, ...]:
    host = f"{item.owner.host}:{item.owner.pid}" if item.owner else ""
    epoch = f"{item.epoch}/{item.epochs}" if item.trial is not None else ""
    attempt = str(item.attempt) if item.attempt else ""
    runs = f"{item.run_id} and {len(item.runs) - 1} more" if len(item.runs) > 1 else item.run_id
    return (item.key, item.label, item.state, attempt, epoch, value_text(item), host, runs)
