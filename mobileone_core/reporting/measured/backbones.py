"""Table 9's networks: published accuracy and latencies, and beside them what was measured here. No torch here."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mobileone_core.latency.zoo import ZOO
from mobileone_core.reporting.devices import DeviceColumn, device_columns
from mobileone_core.reporting.evaluation import standard_error
from mobileone_core.reporting.measured.pareto import pareto_front
from mobileone_core.reporting.measured.result import MEDIAN, MeasuredArm, MeasuredResult
from mobileone_core.reporting.measured.table9 import arm_model, paper_name, table9, zoo_notes
from mobileone_core.reporting.measured.view import TIMED
from mobileone_core.reporting.measured.words import control_words, interval, levels_table, place
from mobileone_core.reporting.published import CAVEATS
from mobileone_core.reporting.render.markdown import markdown
from mobileone_core.reporting.trained.words import MISSING, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NOT_MEASURED = "not measured"
PUBLISHED = (
    (("published top-1", "%"), "top1"),
    (("published FLOPs", "M"), "flops_m"),
    (("published parameters", "M"), "params_m"),
    (("published, CPU", "ms"), "cpu_ms"),
    (("published, GPU", "ms"), "gpu_ms"),
    (("published, iPhone 12", "ms, minimum"), "mobile_ms"),
)


class BackbonesView:
    """Figures 1 and 11 and table 9."""

    def sentences(self, result: MeasuredResult) -> Sequence[str]:
        front = [str(name) for name, _, _ in front_of(published_points())]
        told = [f"Published accuracy against published mobile latency: on the front are {', '.join(front)}."]
        for runtime in result.runtimes:
            points = measured_points(result, runtime)
            if points:
                names = ", ".join(name for name, _, _ in front_of(points))
                told.append(
                    f"Published accuracy against latency measured here ({place(result)}, {runtime}; {len(points)} "
                    f"models): {names}."
                )
        gaps = len(result.arms) - len(result.measured)
        told += [f"Not measured: {gaps} of {len(result.arms)} arms."] if gaps else []
        return [part for part in (*told, control_words(result)) if part]

    def table(self, result: MeasuredResult) -> Table:
        found = [_by_name(result, runtime) for runtime in result.runtimes]
        measured = [(f"measured here, {runtime}", "median, ms [95 %]") for runtime in result.runtimes]
        accuracy = ("measured top-1", "% ± standard error")
        devices = on_devices(result)
        rows = []
        for place_in_table, row in enumerate(table9()):
            published = [row[column] or MISSING for _, column in PUBLISHED]
            times = [_time(own.get(str(row["model"]))) for own in found]
            on_device = [column.cells[place_in_table] for column in devices]
            rows.append((str(row["model"]), *published, *on_device, *times, measured_top1(result, str(row["model"]))))
        heads = [(column.title, column.note) for column in devices]
        return Table((("model", ""), *(title for title, _ in PUBLISHED), *heads, *measured, accuracy), tuple(rows))

    def notes(self, result: MeasuredResult) -> Sequence[str]:
        source = "weights and images are a person's own (`mobileone evaluate`); the runs are in `evaluations.csv`"
        lines = [
            *TIMED,
            "- *Published*: printed in the paper (table 9), every model of it, never mixed with ours. "
            f"{CAVEATS['table9_imagenet']}",
            f"- *Measured top-1*: of ImageNet's test set; {source}."
            if result.evaluations
            else "- *Measured top-1*: none is in the record; `mobileone evaluate` with weights and ImageNet fills it.",
            "- *iPhone*: beside the published column stands one a device, protocol and statistic that `mobileone "
            "latency run` or `import` recorded (kept in `devices.csv`); two protocols never share one.",
            "- *Front*: the networks to which no other one is both as fast and as accurate. In the figure a name that "
            "finds no room is left out.",
            *(f"- *Measured network* {note}." for note in zoo_notes(result)),
        ]
        others = sorted({arm_model(item) for item in result.arms if not paper_name(arm_model(item))})
        return [*lines, f"- Measured, but not in table 9: {', '.join(others)}."] if others else lines

    def sections(self, result: MeasuredResult) -> Sequence[str]:
        return ["## Every measurement", markdown(levels_table(result))]

    def figure(self, result: MeasuredResult) -> "Figure":
        from mobileone_core.reporting.measured.backbones_figure import backbones_figure

        return backbones_figure(result)


def on_devices(result: MeasuredResult) -> tuple[DeviceColumn, ...]:
    """What devices were measured or imported, a column a device and protocol; one that says so where none was."""
    names = {entry.title: name for name, entry in ZOO.items()}
    titles = [names[str(row["model"])] for row in table9()]
    _, *found = device_columns(result.devices, titles, {})
    nothing = DeviceColumn("measured or imported, iPhone", "ms", (NOT_MEASURED,) * len(titles))
    return tuple(found) or (nothing,)


Placed = tuple[str, float, float]  # a network, its latency in ms and its accuracy in percent


def published_points() -> list[Placed]:
    """Published mobile latency and accuracy."""
    return [
        (str(row["model"]), float(str(row["mobile_ms"])), float(str(row["top1"])))
        for row in table9()
        if row["mobile_ms"] and row["top1"]
    ]


def measured_points(result: MeasuredResult, runtime: str) -> list[Placed]:
    """Latency measured in a runtime, and published accuracy."""
    found = _by_name(result, runtime)
    return [
        (name, time, float(row["top1"]))
        for row in table9()
        for name in (str(row["model"]),)
        if name in found and row["top1"] and (time := found[name].metric(MEDIAN)) is not None
    ]


def front_of(points: Sequence[Placed]) -> list[Placed]:
    """The points on the Pareto front, latencies rising."""
    return [points[place] for place in pareto_front([(time, accuracy) for _, time, accuracy in points])]


def measured_top1(result: MeasuredResult, name: str) -> str:
    """What evaluations on ImageNet's test set gave for a network of table 9."""
    cells = [
        f"{100 * row.top1:.2f} ± {100 * standard_error(row.top1, row.images):.2f}"
        for row in result.evaluations
        if f"MobileOne-{row.variant.upper()}" == name and (row.data, row.split) == ("imagenet", "test")
    ]
    return " / ".join(cells) or NOT_MEASURED


def _by_name(result: MeasuredResult, runtime: str) -> dict[str, MeasuredArm]:
    """Arms of a runtime by the name of table 9; the first of a name is meant."""
    found: dict[str, MeasuredArm] = {}
    for item in result.arms:
        if result.runtime_of(item) == runtime:
            found.setdefault(paper_name(arm_model(item)), item)
    return found


def _time(item: MeasuredArm | None) -> str:
    return NOT_MEASURED if item is None or item.unmeasured else interval(item.estimate("latency/median", "_ms"))
