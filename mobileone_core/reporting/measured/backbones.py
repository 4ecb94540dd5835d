"""The view of table 9's networks, and of others: what was published of them, next to what was measured here."""

from collections.abc import Sequence

from mobileone_core.latency.zoo import ZOO
from mobileone_core.reporting.devices import NOT_MEASURED, device_columns
from mobileone_core.reporting.document import MISSING, Column, Section, Table
from mobileone_core.reporting.evaluation import standard_error
from mobileone_core.reporting.figures import style
from mobileone_core.reporting.figures.scatter import NamedPoint, ScatterPanel, scatter_figure
from mobileone_core.reporting.measured import table9, view
from mobileone_core.reporting.measured.levels import levels_table
from mobileone_core.reporting.measured.result import MEDIAN, MeasuredEntry, MeasuredResult
from mobileone_core.reporting.published import CAVEATS, Row, read_published

PUBLISHED_COLUMNS = {
    "top1": Column("published top-1", "%"),
    "flops_m": Column("published FLOPs", "M"),
    "params_m": Column("published parameters", "M"),
    "cpu_ms": Column("published, CPU", "ms"),
    "gpu_ms": Column("published, GPU", "ms"),
    "mobile_ms": Column("published, iPhone 12", "ms, minimum"),
}

PEERS_NOTE = (
    "*Networks that table 9 lacks*: published by the source in the last column, at the size in px; some "
    "were distilled. Latencies of different devices are in different columns. Figure and fronts leave out those whose "
    "accuracy was published at another size than was measured here."
)


class BackbonesView(view.View):
    """Figures 1 and 11 and table 9."""

    def findings(self, result: MeasuredResult) -> Sequence[str]:
        """Name the networks on the Pareto fronts, over published and measured latency."""
        names = ", ".join(point.name for point in pareto_front(table9.points("mobile_ms", "top1")))
        sentences = [f"Published accuracy against published mobile latency: the front is {names}."]
        for runtime in result.runtimes:
            points = measured_points(result, runtime)
            if points:
                names = ", ".join(point.name for point in pareto_front(points))
                source = f"{view.location(result)}, {runtime}; {len(points)} models"
                sentences.append(f"Published accuracy against latency measured here ({source}): {names}.")
        return sentences

    def table(self, result: MeasuredResult) -> Table:
        """Return one row per network of table 9, or per network that was requested."""
        measured = [_times(result, runtime) for runtime in result.runtimes]
        names = {entry.title: name for name, entry in ZOO.items()}
        shown = table9.shown_rows(result)
        titles = [names[str(row["model"])] for row in shown]
        no_device = {Column("measured or imported, iPhone", "ms"): (NOT_MEASURED,) * len(titles)}
        devices = device_columns(result.devices, titles) or no_device
        rows = []
        for index, row in enumerate(shown):
            model = str(row["model"])
            published = [row[name] or MISSING for name in PUBLISHED_COLUMNS]
            on_devices = [cells[index] for cells in devices.values()]
            here = [times.get(model, NOT_MEASURED) for times in measured]
            rows.append((model, *published, *on_devices, *here, measured_top1(result, model)))
        columns = (
            Column("model"),
            *PUBLISHED_COLUMNS.values(),
            *devices,
            *(Column(f"measured here, {runtime}", "median, ms [95 %]") for runtime in result.runtimes),
            Column("measured top-1", "% ± standard error"),
        )
        return Table(columns, tuple(rows))

    def notes(self, result: MeasuredResult) -> Sequence[str]:
        """Return what the columns mean."""
        source = "weights and images are the user's (`mobileone evaluate`); the runs are in `evaluations.csv`"
        others_evaluated = sum(not row.is_imagenet for row in result.evaluations)
        number = "1 evaluation" if others_evaluated == 1 else f"{others_evaluated} evaluations"
        partial = f"*Not in the table*: {number} of other images, whose data set and number are in "
        partial += "`evaluations.csv`; a part of ImageNet's test set gives no value here."
        return [
            *view.TIMED,
            "*Published*: printed in the paper (table 9), every model of it, never mixed with ours. "
            f"{CAVEATS['table9_imagenet']}",
            f"*Measured top-1*: of ImageNet's test set; {source}."
            if any(row.is_imagenet for row in result.evaluations)
            else "*Measured top-1*: none is in the record; `mobileone evaluate` with weights and ImageNet adds it.",
            "*iPhone*: the published column is followed by one per device, protocol and statistic that `mobileone "
            "latency run` or `import` recorded (saved in `devices.csv`); two protocols never share one.",
            "*Front*: the networks to which no other one is both as fast and as accurate. In the figure a name that "
            "does not fit is left out.",
            *([partial] if others_evaluated else []),
            *table9.network_notes(result),
            *([PEERS_NOTE] if others(result) else []),
        ]

    def sections(self, result: MeasuredResult) -> Sequence[Section]:
        """Return the table of the networks that table 9 lacks, if any, and that of all entries."""
        lacking = [Section("Networks that table 9 lacks", (peers_table(result),))] if others(result) else []
        return [*lacking, Section("Every measurement", (levels_table(result),))]

    def figure(self, result: MeasuredResult) -> style.Figure:
        """Draw accuracy against latency with its front, one panel per source of the latency."""
        axes = ("latency, ms", "published top-1, %")
        points = table9.points("mobile_ms", "top1")
        heading = "Published accuracy, published latency on an iPhone 12 (table 9)"
        rows = [[ScatterPanel(heading, style.PUBLISHED, points, *axes, pareto_front(points))]]
        for runtime in result.runtimes:
            if points := measured_points(result, runtime):
                heading = f"Published accuracy, latency measured here: {view.location(result)}, {runtime}"
                rows.append([ScatterPanel(heading, style.MEASURED, points, *axes, pareto_front(points))])
        question, width = result.plan.study.question, style.WIDTH
        return scatter_figure(question, rows, width=width, row_height=4.3, left=0.08, right=0.98, hspace=0.3)


def measured_points(result: MeasuredResult, runtime: str) -> list[NamedPoint]:
    """Return latency measured in a runtime and published accuracy in percent, table 9's where it has the network.

    Networks that table 9 lacks are left out if their accuracy was published at another size of images.
    """
    lacking, entries = others(result), entries_by_model(result, runtime)
    published = [(str(row["model"]), row["top1"]) for row in table9.rows()]
    sizes = {name: str(item.entry.cell.image_size) for name, item in entries.items()}
    published += [
        (str(row["network"]), row["top1"])
        for name, row in published_rows().items()
        if name in lacking and sizes.get(str(row["network"])) == row["image_size"]
    ]
    timed = [(name, entries[name].metric(MEDIAN), top1) for name, top1 in published if name in entries]
    return [NamedPoint(name, time, float(top1)) for name, time, top1 in timed if time is not None and top1]


def pareto_front(points: Sequence[NamedPoint]) -> list[NamedPoint]:
    """Return the points to which no other is at least as good in both and better in one, latencies (x) rising.

    Equal points are all on the front or all off it.
    """

    def dominates(one: NamedPoint, other: NamedPoint) -> bool:
        return one.x <= other.x and one.y >= other.y and one[1:] != other[1:]

    front = [point for point in points if not any(dominates(other, point) for other in points)]
    return sorted(front, key=lambda point: point.x)


def measured_top1(result: MeasuredResult, model: str) -> str:
    """Format what evaluations on ImageNet's test set gave for a model of table 9."""
    cells = [
        f"{100 * row.top1:.2f} ± {100 * standard_error(row.top1, row.images):.2f}"
        for row in result.evaluations
        if f"MobileOne-{row.variant.upper()}" == model and row.is_imagenet
    ]
    return " / ".join(cells) or NOT_MEASURED


def entries_by_model(result: MeasuredResult, runtime: str) -> dict[str, MeasuredEntry]:
    """Return the first entry per network in a runtime, by the network's title."""
    return {title_of(item.network): item for item in reversed(result.entries) if item.runtime == runtime}


def _times(result: MeasuredResult, runtime: str) -> dict[str, str]:
    """The latency of every timed network in a runtime, by the network's title."""
    timed = {name: item for name, item in entries_by_model(result, runtime).items() if not item.unmeasured}
    return {name: view.estimate_text(item.estimate("latency/median", "_ms")) for name, item in timed.items()}


def published_rows() -> dict[str, Row]:
    """Return the published rows by timm's name of the network."""
    return {str(row["timm"]): row for name in ("peers", "peers_resnet") for row in read_published(name)}


def others(result: MeasuredResult) -> set[str]:
    """Return the networks of a study that table 9 lacks."""
    return {item.network for item in result.entries if not table9.paper_name(item.network)}


def title_of(network: str) -> str:
    """Return a network's name in tables and figures: as published, as in latency/zoo.py, or as given."""
    published = published_rows().get(network)
    return str(published["network"]) if published else ZOO[network].title if network in ZOO else network


def peers_table(result: MeasuredResult) -> Table:
    """Return one row per network that table 9 lacks, and per MobileOne that another source published, too."""
    published = published_rows()
    shown = others(result) | {item.network for item in result.entries if item.network in published}
    devices = list(dict.fromkeys(row["device"] for row in published.values() if row["device"]))
    rows = []
    for network in dict.fromkeys(item.network for item in result.entries if item.network in shown):
        row = published.get(network.removeprefix("timm:"), {})
        cells = [row.get(name) or MISSING for name in ("top1", "params_m", "image_size")]
        cells += [(row.get("latency_ms") if row.get("device") == name else None) or MISSING for name in devices]
        items = [item for item in result.entries if item.network == network]
        cells += [view.estimate_text(item.estimate("latency/median", "_ms")) for item in items]
        rows.append((title_of(network), *cells, row.get("note") or MISSING))
    columns = (
        *(Column("model"), Column("published top-1", "%"), Column("published parameters", "M"), Column("at", "px")),
        *(Column(f"published, {name}", "ms") for name in devices),
        *(Column(f"measured here, {name}", "median, ms [95 %]") for name in result.runtimes),
        Column("source", is_text=True),
    )
    return Table(columns, tuple(rows))
