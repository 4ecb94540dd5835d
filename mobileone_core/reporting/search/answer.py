"""The answer of a search: its verdict in sentences, and the tables of its networks and runs."""

from collections.abc import Sequence

from mobileone_core.reporting.document import MISSING, Column, Table, joined
from mobileone_core.reporting.environment import TOLERANCE, is_within_tolerance
from mobileone_core.reporting.search.result import Candidate, Finalist, SearchResult
from mobileone_core.reporting.untrained import untrained_sentences
from mobileone_core.study.factor import level_text
from mobileone_core.study.plan import cached_cost

CONTROL = "control/latency_ratio"
LEVELS = ("k", "widths", "depths", "activation", "se")


def verdict(result: SearchResult) -> str:
    """Say which hand-made networks are dominated on test, compare the fronts on validation, and judge the control."""
    rows = {item.cell.key: item.row for item in result.candidates if item.row}
    untrained = untrained_sentences({item.name: [item.cell] for item in result.candidates}, rows)
    if not result.finalists:
        text = f"Not finished: {len(result.plan.proposed)} of {result.plan.study.generations} generations are proposed."
        return " ".join([*untrained, text])
    hand_made = [item for item in result.finalists if not item.candidate.is_searched and item.point]
    dominated = [item for item in hand_made if result.dominators(item)]
    others = [item for item in hand_made if item not in dominated]
    sentences = []
    if dominated:
        names = "; ".join(f"{item.name} (by {_names(result.dominators(item))})" for item in dominated)
        start = "On test a searched network is at least as accurate and as fast, and better in one, as"
        sentences.append(f"{start} {names}.")
    if others:
        start = "Not dominated:" if dominated else "On test no searched network dominates"
        sentences.append(f"{start} {_names(others)}.")
    if unclear := [item for item in dominated if not any(_is_above(other, item) for other in result.dominators(item))]:
        seeds = f"{result.plan.study.seeds} seeds"
        sentences.append(f"For {_names(unclear)} {seeds} do not separate the accuracies (their intervals overlap).")
    sentences.append(
        f"Hypervolume on validation, from accuracy 0 and latency ratio {result.reference.latency:.2f}: searched front "
        f"{result.volume(searched=True):.3f}, hand-made {result.volume(searched=False):.3f}; one seed each, and the "
        "searched front is chosen by it, which favours it."
    )
    return " ".join([*untrained, *sentences, control_sentence(result)])


def _is_above(one: Finalist, other: Finalist) -> bool:
    low, high = one.test.low, other.test.high
    return low is not None and high is not None and low > high


def control_sentence(result: SearchResult) -> str:
    """Say whether the A/A control, the reference timed twice, is within the tolerance in every comparison."""
    controls = [row.metrics[CONTROL] for row in result.comparison if CONTROL in row.metrics]
    if not controls:
        return "There is no A/A control: whether the machine was idle is unknown."
    worst = max(controls, key=lambda value: abs(value - 1))
    trust = "" if is_within_tolerance(worst) else ": the machine was not idle, do not trust the latencies"
    within = f"{'NOT ' if trust else ''}within {TOLERANCE}{trust}"
    return f"A/A control of {len(controls)} comparisons {within} (worst ratio {worst:.3f})."


def _names(items: Sequence[Finalist]) -> str:
    return joined([item.name for item in items])


def networks_table(result: SearchResult) -> Table:
    """Return one row per finalist, hand-made networks first, each by latency; all networks before the end."""
    final = {item.candidate.cell.key: item for item in result.finalists}
    shown = [(item, final.get(item.cell.key)) for item in result.candidates if not final or item.cell.key in final]
    shown.sort(key=lambda pair: (pair[0].is_searched, _latency(*pair)))
    rows = [_row(result, item, finalist) for item, finalist in shown]
    return Table(tuple(rows[0]), tuple(tuple(row.values()) for row in rows))


def _latency(item: Candidate, final: Finalist | None) -> float:
    if final is not None and final.ratio is not None:
        return final.ratio.value
    return item.point.latency if item.point else 0.0


def _row(result: SearchResult, item: Candidate, final: Finalist | None) -> dict[Column, str]:
    data, ratio, test = result.plan.base.data, item.latency_text, MISSING
    cost = cached_cost(item.cell.spec.model, data.image_size, data.num_classes).deployed
    if final is not None:
        estimate, summary = final.ratio, final.test
        ratio = f"{estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]" if estimate else MISSING
        if summary.mean is not None:
            half = "" if summary.high is None else f" ± {100 * (summary.high - summary.mean):.2f}"
            test = f"{100 * summary.mean:.2f}{half}"
    return {
        Column("network"): item.name,
        **{Column(name): level_text(item.cell.factors[name]) for name in LEVELS},
        Column("parameters", "deployed"): f"{cost.params:,}",
        Column("multiply-adds", "deployed"): f"{cost.macs:,}",
        Column("latency ratio", "[95 % over rounds]"): ratio,
        Column("val top-1, %", "seed 0, chosen by"): item.accuracy_text,
        Column("test top-1, %", "mean ± 95 % interval"): test,
        Column("n", "further seeds"): str(final.test.n) if final else MISSING,
    }


def candidates_table(result: SearchResult) -> Table:
    """Return every network in the order of the search with its cell and run."""
    front = {item.cell.key for item in result.on_front(searched=True)}
    rows = [
        {
            Column("generation"): str(item.generation),
            Column("network"): item.name + (" (front)" if item.cell.key in front else ""),
            **{Column(name): level_text(level) for name, level in item.cell.factors.items()},
            Column("latency ratio"): item.latency_text,
            Column("val top-1, %"): item.accuracy_text,
            Column("cell", is_text=True): f"`{item.cell.key}`",
            Column("run", is_text=True): f"`{item.row.run_id}`" if item.row else MISSING,
        }
        for item in result.candidates
    ]
    return Table(tuple(rows[0]), tuple(tuple(row.values()) for row in rows), labels=2)


def finalist_runs_table(result: SearchResult) -> Table:
    """Return the runs of every finalist's further seeds."""
    rows = tuple((item.name, ", ".join(f"`{run}`" for run in item.runs)) for item in result.finalists)
    return Table((Column("network"), Column("run", is_text=True)), rows)
