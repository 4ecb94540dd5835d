"""What a search found, in sentences and in the cells of a table. No torch here."""

from mobileone_core.benchmark.protocol import CONTROL_TOLERANCE
from mobileone_core.reporting.search.result import Candidate, Finalist, SearchResult
from mobileone_core.reporting.trained.effects import joined
from mobileone_core.reporting.trained.words import MISSING, Table
from mobileone_core.study.factor import level_text
from mobileone_core.study.search_plan import SearchPlan

LEVELS = ("k", "widths", "depths", "activation", "se")


def setting(plan: SearchPlan) -> str:
    """What was searched: tiny on digits, nsga2, 3 generations of 6."""
    study = plan.study
    return (
        f"around {study.variant} on {study.data}, {plan.base.recipe.epochs} epochs, {study.sampler} with seed "
        f"{study.search_seed}, {study.generations} generations of {study.population}, then {study.seeds} further seeds"
    )


def sentences(result: SearchResult) -> list[str]:
    """Which hand-made networks are beaten on test, how large both fronts are on validation, and what that is worth."""
    if not result.finalists:
        done, asked = len(result.plan.proposed), result.plan.study.generations
        return [f"Not over: {done} of {asked} generations are proposed."]
    made = [item for item in result.finalists if not item.candidate.is_searched and item.point]
    beaten = [item for item in made if result.beaten_by(item)]
    left = [item for item in made if item not in beaten]
    said = []
    if beaten:
        names = "; ".join(f"{item.candidate.name} (by {_names(result.beaten_by(item))})" for item in beaten)
        said.append(f"On test a found network is at least as accurate and as fast, and better in one, as {names}.")
    if left:
        whom = joined([item.candidate.name for item in left])
        said.append(f"Not beaten so: {whom}." if beaten else f"On test no found network dominates {whom}.")
    said.append(_told_apart(result, beaten))
    corner = result.reference
    said.append(
        f"Hypervolume on validation, from accuracy 0 and latency ratio {corner.latency:.2f}: found front "
        f"{result.volume(searched=True):.3f}, hand-made {result.volume(searched=False):.3f}; one seed each, and the "
        f"found front is chosen by it, which flatters it."
    )
    return [item for item in [*said, control_words(result)] if item]


def _told_apart(result: SearchResult, beaten: list[Finalist]) -> str:
    """Whether the intervals of the means tell a beaten network from those that beat it."""
    sure = [
        item
        for item in beaten
        if any(
            other.test.low is not None and item.test.high is not None and other.test.low > item.test.high
            for other in result.beaten_by(item)
        )
    ]
    if not beaten or len(sure) == len(beaten):
        return ""
    seeds = result.plan.study.seeds
    names = joined([item.candidate.name for item in beaten if item not in sure])
    return f"For {names} {seeds} seeds do not tell the accuracies apart (their intervals overlap)."


def _names(items: list[Finalist]) -> str:
    return joined([item.candidate.name for item in items])


def control_words(result: SearchResult) -> str:
    """Whether the reference timed twice agreed with itself in every comparison."""
    controls = result.controls
    if not controls:
        return "There is no A/A control: how quiet the machine was is not known."
    worst = max(controls, key=lambda value: abs(value - 1))
    within = abs(worst - 1) <= CONTROL_TOLERANCE
    told = "within 3 %" if within else "NOT within 3 %: the machine was not at rest, do not trust the latencies"
    return f"A/A control of {len(controls)} comparisons {told} (worst ratio {worst:.3f})."


def table_of_search(result: SearchResult) -> Table:
    """A row a finalist: the hand-made networks, then the found front by latency; all of them before the end."""
    columns = (
        ("network", ""),
        *((name, "") for name in LEVELS),
        ("parameters", "deployed"),
        ("multiply-adds", "deployed"),
        ("latency ratio", "[95 % over rounds]"),
        ("val top-1, %", "seed 0, chosen by"),
        ("test top-1, %", "mean ± 95 % interval"),
        ("n", "further seeds"),
    )
    final = {item.candidate.cell.key: item for item in result.finalists}
    shown = [item for item in result.candidates if not final or item.cell.key in final]
    shown.sort(key=lambda item: (item.is_searched, _latency(final.get(item.cell.key), item)))
    return Table(columns, tuple(_row(result, item, final.get(item.cell.key)) for item in shown))


def _latency(final: Finalist | None, item: Candidate) -> float:
    if final is not None and final.ratio is not None:
        return final.ratio.value
    return item.point.latency if item.point else 0.0


def _row(result: SearchResult, item: Candidate, final: Finalist | None) -> tuple[str, ...]:
    cost = result.cost(item)
    ratio = f"{item.point.latency:.2f}" if item.point else MISSING
    if final is not None:
        found = final.ratio
        ratio = f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]" if found else MISSING
    return (
        item.name,
        *(level_text(item.cell.factors[name]) for name in LEVELS),
        f"{cost.params:,}",
        f"{cost.macs:,}",
        ratio,
        f"{100 * item.point.accuracy:.2f}" if item.point else MISSING,
        _mean(final),
        str(final.test.n) if final else MISSING,
    )


def _mean(final: Finalist | None) -> str:
    if final is None or final.test.mean is None:
        return MISSING
    mean = f"{100 * final.test.mean:.2f}"
    return mean if final.test.high is None else f"{mean} ± {100 * (final.test.high - final.test.mean):.2f}"
