"""How a search is reported: its document, and its figure, accuracy over deployed latency."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mobileone_core.benchmark.spec import Entry
from mobileone_core.files import saved_text
from mobileone_core.reporting.document import Details, Document, Figure, Paragraph, Section
from mobileone_core.reporting.environment import environment_blocks
from mobileone_core.reporting.figures import style
from mobileone_core.reporting.figures.labels import LABEL_SIZE, label_at, place_labels_in, write_label
from mobileone_core.reporting.render.csv import factor_columns, read_rows, rows_csv
from mobileone_core.reporting.search.answer import candidates_table, finalist_runs_table, networks_table, verdict
from mobileone_core.reporting.search.result import SearchResult, analyse_search
from mobileone_core.study.factor import level_text
from mobileone_core.study.rows import StudyRecord
from mobileone_core.study.search_plan import SearchPlan

LEFT = 0.09  # of the axes


class SearchKind:
    """Reports of searches, whose rows are networks; an unfinished search shows all networks so far."""

    version = 3
    analyse = staticmethod(analyse_search)

    def suffix(self, plan: SearchPlan) -> str:
        """Return variant, data and the plan's id."""
        return f"{plan.study.variant}-{plan.study.data}-{plan.id}"

    def setting(self, plan: SearchPlan) -> str:
        """Return what was searched: around tiny on digits, 12 epochs, nsga2 with seed 0, 3 generations of 6, ..."""
        study = plan.study
        return (
            f"around {study.variant} on {plan.base.data.title}, {plan.base.recipe.epochs} epochs, {study.sampler} with "
            f"seed {study.search_seed}, {study.generations} generations of {study.population}, then {study.seeds} "
            "further seeds"
        )

    def record_files(self, plan: SearchPlan, record: StudyRecord) -> dict[str, str]:
        """Return cells.csv and comparison.csv, a row per cell and network measured, without values if unfinished."""
        cells, entries = [], []
        for cell in plan.cells:
            names = {"key": cell.key, "seed": cell.seed, **factor_columns(cell.factors)}
            cells.append((names, [row for row in record.rows if row.key == cell.key]))
        for key, entry in _entries(plan):
            names = {"key": key, "arm": entry.label, **factor_columns(entry.factors)}
            rows = [row for row in record.comparison if row.key == key and dict(row.factors) == dict(entry.factors)]
            entries.append((names, rows))
        return {"cells.csv": rows_csv(cells), "comparison.csv": rows_csv(entries)}

    def read_record(self, plan: SearchPlan, directory: Path) -> StudyRecord:
        """Read what record_files returned. Raises KeyError or ValueError if it is of another plan."""
        cells = {cell.key: (cell.seed, cell.factors) for cell in plan.cells}
        levels = {(key, entry.label): entry.factors for key, entry in _entries(plan)}
        rows = read_rows((directory / "cells.csv").read_text(encoding="utf-8"), lambda line: cells[line["key"]])
        comparison = saved_text(directory / "comparison.csv")
        compared = read_rows(comparison, lambda line: (0, levels[line["key"], line["arm"]]))
        return StudyRecord(tuple(rows), (), tuple(compared))

    def document(self, result: SearchResult) -> Document:
        """Return the report."""
        study = result.plan.study
        rows = [*(item.row for item in result.candidates if item.row), *result.comparison]
        tables = [candidates_table(result), *([finalist_runs_table(result)] if result.finalists else [])]
        return Document(
            study.name,
            study.question,
            study.source,
            self.setting(result.plan),
            verdict(result),
            networks_table(result),
            Figure("figure", study.question),
            notes=_notes(study.seeds),
            problems=result.problems,
            missing=_missing(result),
            sections=[
                Section("Search and measurement", (Paragraph(_method(result)),)),
                Section("Environment", environment_blocks(rows, "runs")),
                Section("Networks and runs", (Details("All networks with their runs", tables),)),
            ],
            values={"n": str(study.seeds), "networks": str(len(result.candidates))},
        )

    def figures(self, result: SearchResult) -> Mapping[str, style.Drawing]:
        """Draw accuracy over latency on validation and on test, the only figure."""
        return {"figure": style.drawing(lambda: search_figure(result))}


def _missing(result: SearchResult) -> list[str]:
    """Networks without a point, and finalists without all their seeds."""
    seeds = result.plan.study.seeds
    return [
        *(
            f"generation {item.generation}, {item.name} (`{item.cell.key}`): not both trained and measured"
            for item in result.candidates
            if item.point is None
        ),
        *(f"{item.name}: {item.test.n} of {seeds} further seeds" for item in result.finalists if item.test.n < seeds),
    ]


def _notes(seeds: int) -> list[str]:
    return [
        "*Network*: a hand-made variant with its k, or the first letters of a candidate's key.",
        "*Latency ratio*: deployed form in ONNX Runtime, one thread, batch 1, to the reference network in the same "
        "round; the median over rounds with its order-statistic 95 % interval, all finalists interleaved. k makes no "
        "difference to a deployed network: such variants are timed once.",
        "*Val*: one seed, by which the search chose; the best of many is too optimistic by the noise of one seed.",
        f"*Test*: seeds 1 to {seeds}, which chose nothing; mean with its 95 % t interval.",
        "The same table: `table.csv`, `table.tex`; every cell: `cells.csv`; every measurement: `comparison.csv`.",
    ]


def _method(result: SearchResult) -> str:
    study, protocol = result.plan.study, result.plan.study.protocol
    factors = "; ".join(f"{item.name}: {', '.join(map(level_text, item.levels))}" for item in study.factors)
    widths, depths = (", ".join(f"{value:g}" for value in values) for values in (study.widths, study.depths))
    return (
        f"{math.prod(result.plan.sizes.values()):,} networks: {factors}; multiples of each stage's channels: "
        f"{widths}; of its blocks: {depths}. Each generation is proposed from the results of all before it, trained on "
        "any number of workers, and then measured by one process with nothing else running on the machine: its "
        f"networks, the reference and a second copy of the reference, interleaved in {protocol.rounds} rounds of "
        f"{protocol.burst} calls. Ratios to the reference enter the search, so that generations are comparable."
    )


def _entries(plan: SearchPlan) -> Iterator[tuple[str, Entry[Any]]]:
    return ((planned.key, entry) for planned in plan.comparisons for entry in planned.spec.entries)


def search_figure(result: SearchResult) -> style.Figure:
    """Validation, by which the search chose, on the left, and test of the finalists on the right."""
    figure, grid = style.canvas(style.HEIGHT + 0.4, 1, 2, left=LEFT, right=0.98, bottom=0.12, top=0.82, wspace=0.22)
    left, right = figure.add_subplot(grid[0]), figure.add_subplot(grid[1])
    _validation(left, result)
    _test(right, result)
    for axes, split in ((left, "validation"), (right, "test")):
        axes.set(xlabel="deployed latency, ratio to the reference", ylabel=f"{split} top-1, %")
        axes.grid(visible=True, axis="both")
    style.note(left, "Validation, seed 0: a point per network; lines: fronts")
    style.note(right, "Test: finalists, mean over further seeds, 95 % intervals")
    style.title(figure, result.plan.study.question, LEFT)
    return figure


def _validation(axes: style.Axes, result: SearchResult) -> None:
    shades = style.shades(style.MEASURED, len(result.plan.proposed))
    for number in range(1 + len(result.plan.proposed)):
        points = [item.point for item in result.candidates if item.generation == number and item.point]
        x, y = [point.latency for point in points], [100 * point.accuracy for point in points]
        color, mark = (shades[number - 1], "o") if number else (style.PUBLISHED, "D")
        label = f"generation {number}" if number else "hand-made"
        axes.scatter(x, y, color=color, marker=mark, s=22, label=label, zorder=3)
    for searched, color in ((True, style.MEASURED), (False, style.PUBLISHED)):
        points = [item.point for item in result.on_front(searched=searched) if item.point]
        front = sorted(points, key=lambda point: point.latency)
        x, y = [point.latency for point in front], [100 * point.accuracy for point in front]
        axes.plot(x, y, color=color, linewidth=1, drawstyle="steps-post", zorder=2)
    axes.legend(fontsize=7, loc="lower right")


def _test(axes: style.Axes, result: SearchResult) -> None:
    axes.margins(x=0.3, y=0.06)  # for names
    labels = []
    for item in result.finalists:
        if item.point is None or item.ratio is None:
            continue
        color, mark = (style.MEASURED, "o") if item.candidate.is_searched else (style.PUBLISHED, "D")
        x, y, ratio = item.ratio.value, 100 * item.point.accuracy, item.ratio
        low, high = (item.point.accuracy if end is None else end for end in (item.test.low, item.test.high))
        interval = (100 * max(0.0, low), 100 * min(1.0, high))
        ends = style.interval_ends(x, (ratio.low, ratio.high))
        heights = style.interval_ends(y, interval)
        axes.errorbar(x, y, heights, ends, fmt=mark, color=color, markersize=4, linewidth=1)
        labels.append((item.name, x, y))
    axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())  # names are placed within final limits
    placed = [label_at(axes, *label) for label in labels]
    for (_, x, y), label, spot in zip(labels, placed, place_labels_in(axes, placed), strict=True):
        write_label(axes, label, spot, (x, y), fontsize=LABEL_SIZE)
