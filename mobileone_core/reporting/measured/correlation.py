"""The view of rank correlations between cost and latency, measured and published in separate rows."""

import itertools
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from mobileone_core.errors import require
from mobileone_core.reporting.document import MISSING, Column, Paragraph, Section, Table
from mobileone_core.reporting.figures import style
from mobileone_core.reporting.figures.scatter import NamedPoint, ScatterPanel, scatter_figure
from mobileone_core.reporting.measured import table9, view
from mobileone_core.reporting.measured.levels import levels_table
from mobileone_core.reporting.measured.result import MEDIAN, MeasuredResult
from mobileone_core.reporting.published import CAVEATS, Row, read_published

COSTS = {"macs": "flops_m", "params": "params_m"}  # metric, and the column of table 9 in millions
EXACT = 8  # models up to which all permutations are counted
METHOD = (
    "intervals by Fisher's z with Bonett and Wright's standard error, sqrt((1 + rho^2 / 2) / (n - 3)), at 95 %; p "
    f"against no association, two-sided, by Student's t, and over all permutations where n is {EXACT} or less"
)
COLUMNS = (
    *(Column("latency"), Column("models", "n")),
    *(Column("with multiply-adds", "Spearman [95 %]"), Column("p")),
    *(Column("with parameters", "Spearman [95 %]"), Column("p")),
)
MODELS = {"models of figure 2": table9.figure2_models, "all models": table9.rows}
TURNS = (
    "Table 1's conclusion for the CPU depends on the choice of models: with the five RepVGG networks and the other "
    "four of table 9 latency correlates with cost, without them it does not."
)


@dataclass(frozen=True)
class Correlation:
    """rho over n pairs. No interval if n < 5 or the ranks agree entirely, no rho if a side is constant."""

    n: int
    rho: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None

    @property
    def rho_text(self) -> str:
        """The coefficient with its interval."""
        if self.rho is None:
            return MISSING
        return f"{self.rho:.2f}" + ("" if self.low is None else f" [{self.low:.2f}, {self.high:.2f}]")

    @property
    def p_text(self) -> str:
        """The p value with three digits."""
        if self.p is None:
            return MISSING
        return "< 0.001" if self.p < 0.001 else f"{self.p:.3f}"


def spearman(x: Sequence[float], y: Sequence[float]) -> Correlation:
    """Return Spearman's rank correlation with METHOD's interval and p value. Raises InputError if lengths differ."""
    from scipy.stats import norm, rankdata, spearmanr

    require(len(x) == len(y), "pairs", (len(x), len(y)), "two sequences of one length")
    n = len(x)
    if n < 3 or len(set(x)) < 2 or len(set(y)) < 2:
        return Correlation(n)
    result = spearmanr(x, y)
    rho = min(1.0, max(-1.0, float(result.statistic)))
    p = _permutation_p(rankdata(x), rankdata(y)) if n <= EXACT else float(result.pvalue)
    if n < 5 or 1 - abs(rho) < 1e-12:
        return Correlation(n, rho, p=p)
    half = float(norm.ppf(0.975)) * math.sqrt((1 + rho**2 / 2) / (n - 3))
    return Correlation(n, rho, math.tanh(math.atanh(rho) - half), math.tanh(math.atanh(rho) + half), p)


def _permutation_p(x: Sequence[float], y: Sequence[float]) -> float:
    """The fraction of all orders whose correlation is at least as far from 0."""
    first, second = np.asarray(x) - np.mean(x), np.asarray(y) - np.mean(y)
    orders = np.array(list(itertools.permutations(range(len(first)))))
    products = np.abs(second[orders] @ first)
    return float(np.mean(products >= abs(first @ second) - 1e-9))


class CorrelationView(view.View):
    """Figures 2 and 3 and table 1: latency against multiply-adds and parameters."""

    def findings(self, result: MeasuredResult) -> Sequence[str]:
        """State Spearman's rho of latency with multiply-adds and parameters per runtime, then a remark on table 1."""
        sentences = []
        for runtime in result.runtimes:
            macs, params = measured_correlations(result, runtime)
            if macs.rho is not None:
                texts = f"latency with multiply-adds {macs.rho_text}, with parameters {params.rho_text}"
                sentences.append(f"{runtime}, {macs.n} models: {texts}.")
        return [*sentences, TURNS] if result.measured else []

    def table(self, result: MeasuredResult) -> Table:
        """Return one row per runtime, then, if no network was left out, table 1 as printed and from table 9."""
        rows = [_row(f"measured here, {name}", *measured_correlations(result, name)) for name in result.runtimes]
        if len(table9.shown_rows(result)) < len(table9.rows()):  # the published ones are of other networks
            return Table(COLUMNS, tuple(rows))
        names = ("flops_corr", "flops_p", "params_corr", "params_p")
        for row in read_published("table1_spearman"):
            rows.append((f"published table 1, {row['latency']}", "21", *(str(row[name]) for name in names)))
        for name, (models, of) in itertools.product(table9.LATENCIES, MODELS.items()):
            rows.append(_row(f"published table 9, {name}, {models}", *published_correlations(of(), name)))
        return Table(COLUMNS, tuple(rows))

    def notes(self, result: MeasuredResult) -> Sequence[str]:
        """Return what the columns mean."""
        return [
            *view.TIMED,
            f"*Spearman*: {METHOD}. The models were chosen, not drawn at random: the intervals say how precisely these "
            "few models determine the correlation, not what other networks would give.",
            "*Figure*: a name that does not fit next to its mark is left out; the table of models has all.",
            "*Published* rows are the paper's and never mixed with ours: table 1 as printed, and recomputed from table "
            "9's latencies for the 21 models of figure 2 and for all rows that have one. "
            f"{CAVEATS['table9_imagenet']}",
            *table9.network_notes(result),
        ]

    def sections(self, result: MeasuredResult) -> Sequence[Section]:
        """Return the comparison with the published latencies and the table of all models."""
        text = "Rank correlation of the latency measured here with the paper's, over the models that both have."
        return [
            Section("Our latency against the published one", (against_published(result), Paragraph(text))),
            Section("Models", (levels_table(result),)),
        ]

    def figure(self, result: MeasuredResult) -> style.Figure:
        """Draw latency over both costs, one row per runtime, the published values in the last row."""
        rows = []
        for runtime in result.runtimes:
            macs, params = (_measured(result, runtime, cost) for cost in COSTS)
            if macs:
                rows.append(_panels(f"Measured: {view.location(result)}, {runtime}", style.MEASURED, macs, params))
        published = (table9.points(cost, "mobile_ms", scale=1e6) for cost in COSTS.values())
        rows.append(_panels("Published: table 9, iPhone 12", style.PUBLISHED, *published))
        question, width = result.plan.study.question, 1.25 * style.WIDTH
        return scatter_figure(question, rows, width=width, row_height=4.0, left=0.07, right=0.985, hspace=0.32)


def _panels(heading: str, color: str, macs: list[NamedPoint], params: list[NamedPoint]) -> list[ScatterPanel]:
    return [
        ScatterPanel(heading, color, macs, "multiply-adds", "latency, ms"),
        ScatterPanel("", color, params, "parameters", ""),
    ]


def measured_correlations(result: MeasuredResult, runtime: str, names: Collection[str] = ()) -> list[Correlation]:
    """Correlate the latency in a runtime with multiply-adds, and with parameters; names: of the paper's networks."""
    correlations = []
    for cost in COSTS:
        points = [point for point in _measured(result, runtime, cost) if not names or point.name in names]
        correlations.append(spearman([point.y for point in points], [point.x for point in points]))
    return correlations


def published_correlations(rows: Sequence[Row], latency: str) -> list[Correlation]:
    """Correlate a published latency with FLOPs, and with parameters, over the rows that have one."""
    timed = [row for row in rows if row[f"{latency}_ms"] is not None]
    times = [table9.number_in(row, f"{latency}_ms") for row in timed]
    return [spearman(times, [table9.number_in(row, column) for row in timed]) for column in COSTS.values()]


def against_published(result: MeasuredResult) -> Table:
    """Correlate our latency with the published CPU and mobile latencies, over common models."""
    published = ("cpu", "mobile")
    columns = [Column(f"published {name}", "Spearman [95 %], n") for name in published]
    rows = []
    for runtime in result.runtimes:
        times = {point.name: point.y for point in _measured(result, runtime, "macs")}
        cells = []
        for name in published:
            common = [row for row in table9.rows() if row["model"] in times and row[f"{name}_ms"] is not None]
            ours = [times[str(row["model"])] for row in common]
            correlation = spearman(ours, [table9.number_in(row, f"{name}_ms") for row in common])
            cells.append(f"{correlation.rho_text}, {correlation.n}")
        rows.append((runtime, *cells))
    return Table((Column("latency measured here"), *columns), tuple(rows))


def _measured(result: MeasuredResult, runtime: str, cost: str) -> list[NamedPoint]:
    """Latency over a cost, of the entries of a runtime that have a time and both costs."""
    points = []
    for item in result.measured:
        if item.runtime == runtime and None not in (item.metric("macs"), item.metric("params")):
            name = table9.paper_name(item.network) or item.network
            points.append(NamedPoint(name, item.metric(cost) or 0.0, item.metric(MEDIAN) or 0.0))
    return points


def _row(name: str, macs: Correlation, params: Correlation) -> tuple[str, ...]:
    return name, str(macs.n), macs.rho_text, macs.p_text, params.rho_text, params.p_text
