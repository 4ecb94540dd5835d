"""Does cost tell latency? Rank correlations, measured here and published, each in rows of its own. No torch here."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mobileone_core.reporting.measured.result import MEDIAN, MeasuredArm, MeasuredResult
from mobileone_core.reporting.measured.spearman import METHOD, Correlation, spearman
from mobileone_core.reporting.measured.table9 import (
    LATENCIES,
    arm_model,
    of_figure_2,
    paper_name,
    recomputed,
    table9,
    zoo_notes,
)
from mobileone_core.reporting.measured.view import TIMED
from mobileone_core.reporting.measured.words import control_words, levels_table, place
from mobileone_core.reporting.published import CAVEATS, read_published
from mobileone_core.reporting.render.markdown import markdown
from mobileone_core.reporting.trained.words import MISSING, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = (
    ("latency", ""),
    ("models", "n"),
    ("with multiply-adds", "Spearman [95 %]"),
    ("p", ""),
    ("with parameters", "Spearman [95 %]"),
    ("p", ""),
)
TURNS = (
    "Table 1's conclusion for the CPU turns on which models are in: with the five RepVGG networks and the other four "
    "of table 9 latency goes with cost, without them it does not."
)


class CorrelationView:
    """Figures 2 and 3 and table 1: latency against multiply-adds and parameters."""

    def sentences(self, result: MeasuredResult) -> Sequence[str]:
        if not result.measured:
            return ["Nothing is measured yet."]
        told = [f"Measured on {place(result)}."]
        for runtime in result.runtimes:
            macs, params = measured_correlations(result, runtime)
            if macs.rho is not None:
                found = f"latency with multiply-adds {_rho(macs)}, with parameters {_rho(params)}"
                told.append(f"{runtime}, {macs.n} models: {found}.")
        gaps = len(result.arms) - len(result.measured)
        told += [f"Not measured: {gaps} of {len(result.arms)} arms."] if gaps else []
        return [part for part in (*told, control_words(result), TURNS) if part]

    def table(self, result: MeasuredResult) -> Table:
        rows = [
            _line(f"measured here, {runtime}", *measured_correlations(result, runtime)) for runtime in result.runtimes
        ]
        return Table(COLUMNS, (*rows, *_published()))

    def notes(self, result: MeasuredResult) -> Sequence[str]:
        return [
            *TIMED,
            f"- *Spearman*: {METHOD}. The models were chosen, not drawn: the intervals say how far so few models can "
            "tell, not what other networks would give.",
            "- *Figure*: a name that finds no room beside its mark is left out; the table of models has all.",
            "- *Published* rows are the paper's and never mixed with ours: table 1 as printed, and computed again from "
            "table 9's latencies for the 21 models of figure 2 and for all rows that have one. "
            f"{CAVEATS['table9_imagenet']}",
            *(f"- *Measured network* {note}." for note in zoo_notes(result)),
        ]

    def sections(self, result: MeasuredResult) -> Sequence[str]:
        return [
            "## Our latency against the published one",
            markdown(against_published(result)),
            "Rank correlation of the latency measured here with the paper's, over the models that both have.",
            "## Models",
            markdown(levels_table(result)),
        ]

    def figure(self, result: MeasuredResult) -> "Figure":
        from mobileone_core.reporting.measured.correlation_figure import correlation_figure

        return correlation_figure(result)


def timed_of(result: MeasuredResult, runtime: str) -> list[MeasuredArm]:
    """The arms of a runtime that have a time and both costs."""
    return [
        item
        for item in result.measured
        if result.runtime_of(item) == runtime and None not in (item.metric("macs"), item.metric("params"))
    ]


def measured_correlations(result: MeasuredResult, runtime: str) -> tuple[Correlation, Correlation]:
    """Of the latency in a runtime with multiply-adds, and with parameters."""
    own = timed_of(result, runtime)
    macs, params = (
        spearman([item.metric(MEDIAN) or 0.0 for item in own], [item.metric(cost) or 0.0 for item in own])
        for cost in ("macs", "params")
    )
    return macs, params


def against_published(result: MeasuredResult) -> Table:
    """Our latency with the published CPU and mobile latencies, over common models."""
    columns = (
        ("latency measured here", ""),
        *((f"published {name}", "Spearman [95 %], n") for name in ("cpu", "mobile")),
    )
    rows = []
    for runtime in result.runtimes:
        own = {paper_name(arm_model(item)): item.metric(MEDIAN) or 0.0 for item in timed_of(result, runtime)}
        cells = []
        for name in ("cpu", "mobile"):
            column = LATENCIES[name]
            pairs = [
                (own[str(row["model"])], float(str(row[column])))
                for row in table9()
                if row["model"] in own and row[column] is not None
            ]
            found = spearman([x for x, _ in pairs], [y for _, y in pairs])
            cells.append(f"{_rho(found)}, {found.n}")
        rows.append((runtime, *cells))
    return Table(columns, tuple(rows))


def _published() -> list[tuple[str, ...]]:
    """Table 1 as printed, then from table 9."""
    printed = [
        (
            f"published table 1, {row['latency']}",
            "21",
            str(row["flops_corr"]),
            str(row["flops_p"]),
            str(row["params_corr"]),
            str(row["params_p"]),
        )
        for row in read_published("table1_spearman")
    ]
    again = [
        _line(f"published table 9, {name}, {words}", *recomputed(rows, name).values())
        for name in LATENCIES
        for words, rows in (("models of figure 2", of_figure_2()), ("all models", table9()))
    ]
    return [*printed, *again]


def _line(name: str, flops: Correlation, params: Correlation) -> tuple[str, ...]:
    return name, str(flops.n), _rho(flops), _p(flops), _rho(params), _p(params)


def _rho(found: Correlation) -> str:
    if found.rho is None:
        return MISSING
    if found.low is None or found.high is None:
        return f"{found.rho:.2f}"
    return f"{found.rho:.2f} [{found.low:.2f}, {found.high:.2f}]"


def _p(found: Correlation) -> str:
    if found.p is None:
        return MISSING
    return "< 0.001" if found.p < 0.001 else f"{found.p:.3f}"
