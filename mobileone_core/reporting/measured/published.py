"""The paper's latencies beside the arms of a measured study, in columns of their own. No torch here."""

from collections.abc import Mapping

from mobileone_core.reporting.measured.result import MeasuredArm, MeasuredResult
from mobileone_core.reporting.published import PublishedValue, published_values

RANK5 = "_rank5"  # both forms of an activation are one row of table 2


def published_of(result: MeasuredResult) -> Mapping[str, PublishedValue]:
    """Table 2's latencies by level, where the study shows that table."""
    if result.plan.study.published != "table2_activation_latency_ms":
        return {}
    return {value.level: value for value in published_values(result.plan.study.published)}


def published_value(result: MeasuredResult, item: MeasuredArm) -> PublishedValue | None:
    """The paper's latency of an arm's network."""
    levels = (str(level).removesuffix(RANK5) for level in item.arm.factors.values())
    found = published_of(result)
    return next((found[level] for level in levels if level in found), None)


def published_ratio(result: MeasuredResult, item: MeasuredArm) -> float | None:
    """The paper's latency over the paper's latency of the reference."""
    own = published_value(result, item)
    reference = next((other for other in result.arms if other.arm.label == item.arm.reference), None)
    base = published_value(result, reference) if reference else None
    return own.value / base.value if own and base else None
