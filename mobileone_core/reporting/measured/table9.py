"""Table 9's networks, as published: which of them a level names, and table 1 from them. No torch here."""

from collections.abc import Mapping, Sequence

from mobileone_core.latency.zoo import ZOO
from mobileone_core.reporting.measured.result import MeasuredArm, MeasuredResult
from mobileone_core.reporting.measured.spearman import Correlation, spearman
from mobileone_core.reporting.published import Row, read_published

# Rows of table 9 that figure 2 leaves out.
LEFT_OUT = ("Mobileformer-96", "ConViT-tiny", "MobileNetV2-x1.4", "MobileNeXt-x1.0")
COSTS = ("flops_m", "params_m")
LATENCIES = {"mobile": "mobile_ms", "cpu": "cpu_ms", "gpu": "gpu_ms"}


def table9() -> tuple[Row, ...]:
    return read_published("table9_imagenet")


def paper_name(network: str) -> str:
    """The row of table 9 that a network of the zoo is; empty where it is none."""
    title = ZOO[network].title if network in ZOO else ""
    return title if any(row["model"] == title for row in table9()) else ""


def zoo_notes(result: MeasuredResult) -> list[str]:
    """How the libraries' networks differ from the published ones, where they do."""
    names = dict.fromkeys(map(arm_model, result.arms))
    return [f"{ZOO[name].title}: {ZOO[name].note}" for name in names if name in ZOO and ZOO[name].note]


def arm_model(item: MeasuredArm) -> str:
    """The name of an arm's network."""
    return str(item.arm.factors.get("model", getattr(item.arm.cell.parts.get("network"), "model", item.arm.label)))


def of_figure_2() -> tuple[Row, ...]:
    """The 21 models of figure 2."""
    return tuple(
        row for row in table9() if row["model"] not in LEFT_OUT and not str(row["model"]).startswith("RepVGG-")
    )


def recomputed(rows: Sequence[Row], latency: str) -> Mapping[str, Correlation]:
    """Spearman of a published latency with FLOPs and with parameters, over the rows that have one."""
    known = [row for row in rows if row[LATENCIES[latency]] is not None]
    times = [_value(row, LATENCIES[latency]) for row in known]
    return {cost: spearman(times, [_value(row, cost) for row in known]) for cost in COSTS}


def _value(row: Row, column: str) -> float:
    return float(str(row[column]))
