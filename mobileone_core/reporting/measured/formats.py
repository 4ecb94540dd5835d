"""Numbers of a measured study as printed in tables and sentences."""

from mobileone_core.benchmark.samples import Estimate
from mobileone_core.reporting.document import MISSING


def number(value: float | None, digits: str = "#.3g") -> str:
    """Format a value with three digits, all digits from 1000 on."""
    return MISSING if value is None else format(value, digits if abs(value) < 1000 else ",.0f").rstrip(".")


def estimate(value: Estimate | None, digits: str = "#.3g") -> str:
    """Format a value with its interval."""
    if value is None:
        return MISSING
    middle, low, high = (number(item, digits) for item in (value.value, value.low, value.high))
    return middle if value.low == value.high else f"{middle} [{low}, {high}]"


def count(value: float | None) -> str:
    """Format a count."""
    return MISSING if value is None else f"{value:,.0f}"
