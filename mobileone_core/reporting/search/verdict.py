"""The answer of a search in sentences."""

from collections.abc import Sequence

from mobileone_core.reporting.document import joined
from mobileone_core.reporting.environment import TOLERANCE, is_within_tolerance
from mobileone_core.reporting.search.result import Finalist, SearchResult


def verdict(result: SearchResult) -> str:
    """Say which hand-made networks are dominated on test, compare the fronts on validation, and judge the control."""
    if not result.finalists:
        return f"Not finished: {len(result.plan.proposed)} of {result.plan.study.generations} generations are proposed."
    hand_made = [item for item in result.finalists if not item.candidate.is_searched and item.point]
    dominated = [item for item in hand_made if result.dominators(item)]
    others = [item for item in hand_made if item not in dominated]
    sentences = []
    if dominated:
        names = "; ".join(f"{item.name} (by {_names(result.dominators(item))})" for item in dominated)
        sentences.append(
            f"On test a searched network is at least as accurate and as fast, and better in one, as {names}."
        )
    if others:
        start = "Not dominated:" if dominated else "On test no searched network dominates"
        sentences.append(f"{start} {_names(others)}.")
    sentences += [_overlap(result, dominated), _hypervolumes(result), control_sentence(result)]
    return " ".join(filter(None, sentences))


def _overlap(result: SearchResult, dominated: Sequence[Finalist]) -> str:
    """Name the dominated networks whose interval overlaps that of every network that dominates them."""
    unclear = [item for item in dominated if not any(_is_above(other, item) for other in result.dominators(item))]
    if not unclear:
        return ""
    seeds = result.plan.study.seeds
    return f"For {_names(unclear)} {seeds} seeds do not separate the accuracies (their intervals overlap)."


def _is_above(one: Finalist, other: Finalist) -> bool:
    low, high = one.test.low, other.test.high
    return low is not None and high is not None and low > high


def _hypervolumes(result: SearchResult) -> str:
    return (
        f"Hypervolume on validation, from accuracy 0 and latency ratio {result.reference.latency:.2f}: searched front "
        f"{result.volume(searched=True):.3f}, hand-made {result.volume(searched=False):.3f}; one seed each, and the "
        "searched front is chosen by it, which favours it."
    )


def control_sentence(result: SearchResult) -> str:
    """Say whether the A/A control, the reference timed twice, is within the tolerance in every comparison."""
    controls = result.controls
    if not controls:
        return "There is no A/A control: whether the machine was idle is unknown."
    worst = max(controls, key=lambda value: abs(value - 1))
    trust = "" if is_within_tolerance(worst) else ": the machine was not idle, do not trust the latencies"
    within = f"{'NOT ' if trust else ''}within {TOLERANCE}{trust}"
    return f"A/A control of {len(controls)} comparisons {within} (worst ratio {worst:.3f})."


def _names(items: Sequence[Finalist]) -> str:
    return joined([item.name for item in items])
