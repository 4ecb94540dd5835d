"""The view of latency studies: the ratio of every level to its reference."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mobileone_core.reporting.document import MISSING, Column, Table
from mobileone_core.reporting.figures.ratios import RatioFigure
from mobileone_core.reporting.measured import formats
from mobileone_core.reporting.measured.result import MeasuredEntry, MeasuredResult
from mobileone_core.reporting.measured.view import TIMED, View, by_verdict, factor_columns, location
from mobileone_core.reporting.published import CAVEATS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RANKS = ("dynamic_relu_a", "dynamic_relu_a_rank5")


class LevelsView(View):
    """One row per entry with its ratio to its reference."""

    def findings(self, result: MeasuredResult) -> Sequence[str]:
        """List the levels by verdict per runtime, then compare both forms of Dynamic ReLU."""
        sentences = []
        for runtime in result.runtimes:
            compared = [item for item in result.measured if result.runtime_of(item) == runtime and item.ratio]
            if compared:
                sentences += [f"{runtime}: {'; '.join(_grouped(result, compared))}.", _dynamic_relu(compared)]
        return sentences

    def table(self, result: MeasuredResult) -> Table:
        """Return the table of all entries."""
        return levels_table(result)

    def notes(self, result: MeasuredResult) -> Sequence[str]:
        """Return what the columns mean, with the caveats of the published ones."""
        if not result.published:
            return TIMED
        caveats = CAVEATS[result.plan.study.published]
        return (*TIMED, f"*Published*: printed in the paper (table 2), never mixed with ours. {caveats}")

    def figure(self, result: MeasuredResult) -> "Figure":
        """Draw the ratios per runtime, published ones in a separate panel."""
        compared = [item for item in result.entries if not item.is_reference]
        return RatioFigure(
            result.plan.study.question,
            f"Measured: {location(result) or 'nothing yet'}",
            f"ratio of medians, 95 % over {result.rounds} rounds",
            list(dict.fromkeys(map(result.name_of, compared))) or ["-"],
            {
                runtime: [
                    (result.name_of(item), item.ratio)
                    for item in compared
                    if result.runtime_of(item) == runtime and item.ratio
                ]
                for runtime in result.runtimes
            },
            {result.name_of(item): ratio for item in compared if (ratio := result.published_ratio(item))},
        ).draw()


def levels_table(result: MeasuredResult) -> Table:
    """Return one row per entry: cost, times, ratio and verdict, and the published latency if there is one."""
    has_published, trim = bool(result.published), result.plan.spec.protocol.trim
    columns = [
        *factor_columns(result),
        Column("parameters"),
        Column("multiply-adds", "one image"),
        Column("measured median, ms", "[95 % over rounds]"),
        Column("minimum", "ms"),
        Column("p90", "ms"),
        *((Column("low", "ms, trimmed"), Column("average", "ms, trimmed")) if trim else ()),
        Column("ratio to its reference", "[95 %]"),
        Column("verdict", "against its reference", is_text=True),
        Column("n", "rounds"),
    ]
    published = [Column("published, iPhone 12", "ms, minimum"), Column("published ratio", "to published ReLU")]
    rows = []
    for item in result.entries:
        value = result.published_value(item)
        printed = (value.printed if value else MISSING, formats.number(result.published_ratio(item), ".2f"))
        rows.append((*_row(result, item), *(printed if has_published else ())))
    return Table((*columns, *(published if has_published else ())), tuple(rows), labels=len(result.plan.study.factors))


def _row(result: MeasuredResult, item: MeasuredEntry) -> tuple[str, ...]:
    times = ["min", "p90", *(("low", "average") if result.plan.spec.protocol.trim else ())]
    return (
        *item.level_texts,
        formats.count(item.metric("params")),
        formats.count(item.metric("macs")),
        formats.estimate(item.estimate("latency/median", "_ms")),
        *(formats.number(item.metric(f"latency/{name}_ms")) for name in times),
        formats.estimate(item.ratio, ".2f"),
        result.verdict(item) if not item.unmeasured else "not measured",
        result.rounds_text(item),
    )


def _grouped(result: MeasuredResult, compared: Sequence[MeasuredEntry]) -> list[str]:
    """Entries by verdict, ratios rising: slower: silu 1.07 and gelu 1.08."""
    names: dict[str, list[str]] = {}
    ratios = [(item.ratio.value, item) for item in compared if item.ratio]
    for ratio, item in sorted(ratios, key=lambda pair: pair[0]):
        names.setdefault(result.verdict(item), []).append(f"{result.name_of(item)} {ratio:.2f}")
    return by_verdict(result, names, ": ")


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
