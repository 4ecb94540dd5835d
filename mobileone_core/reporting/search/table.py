"""The tables of a search: the networks at its end, and all networks with their runs."""

from mobileone_core.reporting.document import MISSING, Column, Table
from mobileone_core.reporting.search.result import Candidate, Finalist, SearchResult
from mobileone_core.study.factor import level_text

LEVELS = ("k", "widths", "depths", "activation", "se")


def networks_table(result: SearchResult) -> Table:
    """Return one row per finalist, hand-made networks first, each by latency; all networks before the end."""
    columns = (
        Column("network"),
        *map(Column, LEVELS),
        Column("parameters", "deployed"),
        Column("multiply-adds", "deployed"),
        Column("latency ratio", "[95 % over rounds]"),
        Column("val top-1, %", "seed 0, chosen by"),
        Column("test top-1, %", "mean ± 95 % interval"),
        Column("n", "further seeds"),
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
    ratio = item.latency_text
    if final is not None:
        estimate = final.ratio
        ratio = f"{estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]" if estimate else MISSING
    return (
        item.name,
        *(level_text(item.cell.factors[name]) for name in LEVELS),
        f"{cost.params:,}",
        f"{cost.macs:,}",
        ratio,
        item.accuracy_text,
        _test_text(final),
        str(final.test.n) if final else MISSING,
    )


def _test_text(final: Finalist | None) -> str:
    if final is None or final.test.mean is None:
        return MISSING
    mean = f"{100 * final.test.mean:.2f}"
    return mean if final.test.high is None else f"{mean} ± {100 * (final.test.high - final.test.mean):.2f}"


def candidates_table(result: SearchResult) -> Table:
    """Return every network in the order of the search with its cell and run."""
    front = {item.cell.key for item in result.on_front(searched=True)}
    names = [*result.candidates[0].cell.factors]
    rows = [
        (
            str(item.generation),
            item.name + (" (front)" if item.cell.key in front else ""),
            *map(level_text, item.cell.factors.values()),
            item.latency_text,
            item.accuracy_text,
            f"`{item.cell.key}`",
            f"`{item.row.run_id}`" if item.row else MISSING,
        )
        for item in result.candidates
    ]
    columns = [Column(name) for name in ("generation", "network", *names, "latency ratio", "val top-1, %")]
    texts = (Column("cell", is_text=True), Column("run", is_text=True))
    return Table((*columns, *texts), tuple(rows), labels=2)


def finalist_runs_table(result: SearchResult) -> Table:
    """Return the runs of every finalist's further seeds."""
    rows = tuple((item.name, ", ".join(f"`{run}`" for run in item.runs)) for item in result.finalists)
    return Table((Column("network"), Column("run", is_text=True)), rows)
