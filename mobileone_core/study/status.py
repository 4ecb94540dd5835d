"""Where the cells of studies stand, as text. Reads only; no optuna, no mlflow here."""

import math
from collections.abc import Sequence

from mobileone_core.errors import InputError
from mobileone_core.study.measured import MeasuredPlan
from mobileone_core.study.plan import Plan
from mobileone_core.study.plans import AnyPlan
from mobileone_core.study.run.progress import summary, value_text
from mobileone_core.study.search_plan import SearchPlan
from mobileone_core.study.state import CellState, study_names, study_states
from mobileone_core.study.words import field_words, size_words
from mobileone_core.study.workspace import Workspace, redacted

NAMED = {"data.image_size", *(f"recipe.{name}" for name in ("epochs", "batch_size", "optimizer", "lr"))}
HEADS = ("cell", "what", "state", "attempt", "epoch", "metric", "host", "run")


def status_lines(workspace: Workspace, studies: Sequence[str] = ()) -> list[str]:
    """Every cell of the studies named, or of all, by queue; InputError for a study that was never planned."""
    known = study_names(workspace)
    for name in studies:
        if not any(_is_of(queue, name) for queue in known):
            raise InputError.of("study", name, f"planned are {', '.join(known) or 'none yet'}")
    if not known:
        return [f"no study was planned in {redacted(workspace.queue)}"]
    lines: list[str] = []
    for queue in (item for item in known if not studies or any(_is_of(item, name) for name in studies)):
        states = study_states(workspace, queue)
        lines += [f"{queue}: {summary(states, None) or 'no cells'}", *_table(states), ""]
    return lines[:-1]


def _is_of(queue: str, study: str) -> bool:
    return queue == study or queue.startswith(f"{study}-")


def plan_lines(plan: AnyPlan, states: Sequence[CellState]) -> list[str]:
    """Every cell of a plan and its state; of a measured one also what is measured."""
    if isinstance(plan, SearchPlan):
        return _search_lines(plan, states)
    return _measured_lines(plan, states) if isinstance(plan, MeasuredPlan) else _trained_lines(plan, states)


def _search_lines(plan: SearchPlan, states: Sequence[CellState]) -> list[str]:
    """The generations known so far, and what is still to be proposed."""
    study, known = plan.study, len(plan.proposed)
    sizes = plan.space.sizes
    lines = [
        f"{study.name}: {len(states)} cells so far; {summary(states, None)}",
        f"{study.variant} on {plan.base.data.name} at {plan.base.data.image_size} px; {plan.base.recipe.epochs} epochs",
        f"{study.sampler} over {math.prod(sizes.values()):,} networks: "
        + ", ".join(f"{name} {size}" for name, size in sizes.items()),
        f"generations: {known} of {study.generations} proposed, {study.population} candidates each",
    ]
    if known < study.generations:
        lines.append(f"still to be proposed, each from the results before it: {known + 1} to {study.generations}")
    if not plan.confirmed:
        lines.append(f"then: the front and the hand-made networks with {study.seeds} further seeds, side by side")
    for number, cells in enumerate(plan.generations):
        lines.append(f"generation {number}: {' '.join(cell.key for cell in cells)}")
    return [*lines, *_table(states)]


def _measured_lines(plan: MeasuredPlan, states: Sequence[CellState]) -> list[str]:
    protocol, arms, base = plan.study.protocol, plan.spec.entries, plan.study.base
    return [
        f"{plan.study.name}: {len(arms)} networks side by side; {summary(states, None)}",
        f"{protocol.rounds} rounds of {protocol.burst} calls, {base.threads} threads a call, {base.size_text}",
        *(f"  {arm.label}" for arm in arms),
        *(f"  not measured: {label}: {why}" for label, why in plan.study.gaps.items()),
        *_table(states),
    ]


def _trained_lines(plan: Plan, states: Sequence[CellState]) -> list[str]:
    study, recipe, data = plan.study, plan.base.recipe, plan.base.data
    return [
        f"{study.name}: {len(states)} cells; {summary(states, None)}",
        f"{study.variant} on {data.name} at {data.image_size} px; recipe {study.recipe}: {recipe.epochs} epochs, "
        f"batch {recipe.batch_size}, {recipe.optimizer} lr {recipe.lr:g}{_others(plan)}",
        *_table(states),
    ]


def _others(plan: Plan) -> str:
    """Teachers and phases of the base, and what else differs from the presets: ; teacher small; activation gelu."""
    recipe, varied = plan.base.recipe, {name for factor in plan.study.factors for name in factor.fields}
    always = {
        "recipe.teachers": field_words("teachers", recipe.teachers) if recipe.teachers else "",
        "recipe.phases": f"phases {size_words(recipe.phases)}" if recipe.phases else "",
    }
    changes = {name: field_words(name.partition(".")[2], value) for name, value in plan.changes.items()}
    told = {**changes, **{name: words for name, words in always.items() if words}}
    return "".join(f"; {words}" for name, words in told.items() if name not in varied | NAMED)


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
