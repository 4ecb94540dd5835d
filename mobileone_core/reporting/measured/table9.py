"""Table 9's networks, as published: which of them a level names, and table 1 from them. No torch here."""

import re
from collections.abc import Mapping, Sequence

from mobileone_core.reporting.measured.result import MeasuredArm
from mobileone_core.reporting.measured.spearman import Correlation, spearman
from mobileone_core.reporting.published import Row, read_published

# Rows of table 9 that figure 2 leaves out.
LEFT_OUT = ("Mobileformer-96", "ConViT-tiny", "MobileNetV2-x1.4", "MobileNeXt-x1.0")
COSTS = ("flops_m", "params_m")
LATENCIES = {"mobile": "mobile_ms", "cpu": "cpu_ms", "gpu": "gpu_ms"}
# Other names of networks, letters and digits alone.
ALIASES = {
    "mobilenetv1100": "MobileNetV1",
    "mobilenetv2": "MobileNetV2-x1.0",
    "mobilenetv2100": "MobileNetV2-x1.0",
    "mobilenetv2140": "MobileNetV2-x1.4",
    "mobilenetv3large": "MobileNetV3-L",
    "mobilenetv3large100": "MobileNetV3-L",
    "mobilenetv3small": "MobileNetV3-S",
    "mobilenetv3small100": "MobileNetV3-S",
    "shufflenetv2x10": "ShuffleNetV2-1.0",
    "shufflenetv2x20": "ShuffleNetV2-2.0",
    "mnasnet": "MNASNet-A1",
    "semnasnet100": "MNASNet-A1",
    "pitti224": "PiT-ti",
    "deittinypatch16224": "DeiT-tiny",
}


def table9() -> tuple[Row, ...]:
    return read_published("table9_imagenet")


def paper_name(level: str) -> str:
    """The row of table 9 that a network's name means; empty where it has none."""
    plain = _plain(level)
    rows = {_plain(str(row["model"])): str(row["model"]) for row in table9()}
    return rows.get(plain) or ALIASES.get(plain, "")


def arm_model(item: MeasuredArm) -> str:
    """The name of an arm's network."""
    return str(item.arm.factors.get("model", getattr(item.arm.cell.network, "model", item.arm.label)))


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


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
