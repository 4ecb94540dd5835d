"""The view of latency studies: the ratio of every level to its reference."""

from collections.abc import Sequence

from mobileone_core.benchmark.samples import Estimate
from mobileone_core.reporting.document import MISSING, Column, Table, number_text
from mobileone_core.reporting.figures import style
from mobileone_core.reporting.figures.ratios import ratio_figure
from mobileone_core.reporting.measured import view
from mobileone_core.reporting.measured.result import MeasuredEntry, MeasuredResult
from mobileone_core.reporting.published import CAVEATS

THROUGHPUT = "throughput/images_per_second"
RANKS = ("dynamic_relu_a", "dynamic_relu_a_rank5")


class LevelsView(view.View):
    """One row per entry with its ratio to its reference."""

    def findings(self, result: MeasuredResult) -> Sequence[str]:
        """List the levels by verdict per runtime, then compare both forms of Dynamic ReLU."""
        sentences = []
        for runtime in result.runtimes:
            compared = [item for item in result.measured if item.runtime == runtime and item.ratio]
            if compared:
                sentences += [f"{runtime}: {'; '.join(_grouped(result, compared))}.", _dynamic_relu(compared)]
        return sentences

    def table(self, result: MeasuredResult) -> Table:
        """Return the table of all entries."""
        return levels_table(result)

    def notes(self, result: MeasuredResult) -> Sequence[str]:
        """Return what the columns mean, with the caveats of the published ones."""
        if not result.published:
            return view.TIMED
        caveats = CAVEATS[result.plan.study.published]
        return (*view.TIMED, f"*Published*: printed in the paper (table 2), never mixed with ours. {caveats}")

    def figure(self, result: MeasuredResult) -> style.Figure:
        """Draw the ratios per runtime, published ones in a separate panel."""
        compared = [item for item in result.entries if not item.is_reference]
        levels = list(dict.fromkeys(map(result.name_of, compared)))
        measured: dict[str, list[tuple[int, Estimate]]] = {runtime: [] for runtime in result.runtimes}
        published = {}
        for item in compared:
            index = levels.index(result.name_of(item))
            if item.ratio:
                measured[item.runtime].append((index, item.ratio))
            if ratio := result.published_ratio(item):
                published[index] = ratio
        heading = f"Measured: {view.location(result) or 'nothing yet'}"
        note = f"ratio of medians, 95 % over {result.rounds} rounds"
        return ratio_figure(result.plan.study.question, heading, note, levels or ["-"], measured, published)


def levels_table(result: MeasuredResult) -> Table:
    """Return one row per entry: cost, times, ratio and verdict, and the published latency if there is one."""
    return view.entries_table(result, _row)


def _row(result: MeasuredResult, item: MeasuredEntry) -> dict[Column, str]:
    row = {
        Column("parameters"): number_text(item.metric("params"), ",.0f"),
        Column("multiply-adds", "one image"): number_text(item.metric("macs"), ",.0f"),
        Column("measured median, ms", "[95 % over rounds]"): view.estimate_text(item.estimate("latency/median", "_ms")),
        Column("minimum", "ms"): number_text(item.metric("latency/min_ms")),
        Column("p90", "ms"): number_text(item.metric("latency/p90_ms")),
    }
    if any(other.metric("unfolded/params") for other in result.entries):
        row[Column("parameters before folding")] = number_text(item.metric("unfolded/params"), ",.0f")
        row[Column("outputs changed by", "folding")] = number_text(item.metric("unfolded/difference"), ".1g")
    if any(other.metric(THROUGHPUT) for other in result.entries):
        row[Column("throughput", "images/s [95 %]")] = view.estimate_text(item.estimate(THROUGHPUT), ".4g")
    if result.plan.spec.protocol.trim:
        for name in ("low", "average"):
            row[Column(name, "ms, trimmed")] = number_text(item.metric(f"latency/{name}_ms"))
    row[Column("ratio to its reference", "[95 %]")] = view.estimate_text(item.ratio, ".2f")
    verdict = "not measured" if item.unmeasured else result.verdict(item)
    row[Column("verdict", "against its reference", is_text=True)] = verdict
    row[Column("n", "rounds")] = MISSING if item.unmeasured else str(result.rounds)
    if result.published:
        value = result.published_value(item)
        row[Column("published, iPhone 12", "ms, minimum")] = value.printed if value else MISSING
        row[Column("published ratio", "to published ReLU")] = number_text(result.published_ratio(item), ".2f")
    return row


def _grouped(result: MeasuredResult, compared: Sequence[MeasuredEntry]) -> list[str]:
    """Entries by verdict, ratios rising: slower: silu 1.07 and gelu 1.08."""
    names: dict[str, list[str]] = {}
    ratios = [(item.ratio.value, item) for item in compared if item.ratio]
    for ratio, item in sorted(ratios, key=lambda pair: pair[0]):
        names.setdefault(result.verdict(item), []).append(f"{result.name_of(item)} {ratio:.2f}")
    return view.by_verdict(result, names, ": ")


def _dynamic_relu(compared: Sequence[MeasuredEntry]) -> str:
    """Compare both forms of Dynamic ReLU A; empty unless both were measured."""
    levels = {str(level): item.ratio for item in compared for level in item.entry.factors.values()}
    rank4, usual = (levels.get(name) for name in RANKS)
    if rank4 is None or usual is None:
        return ""
    layout = "" if usual.low <= rank4.high else ": its cost depends much on the memory layout"
    return (
        f"Dynamic ReLU A costs {usual.value:.2f} times ReLU in its usual, transposed form and {rank4.value:.2f} times "
        f"as maps of rank 4{layout}."
    )
