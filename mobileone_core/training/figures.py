"""The metrics of a call that was timed side by side with others. No torch here."""

from mobileone_core.latency.samples import Samples

TWIN = "_control"  # ends the name of a call's twin


def time_figures(samples: Samples, label: str, name: str) -> dict[str, float]:
    """name_ms, the median over rounds, with its ends _low and _high, and _min and _p90: milliseconds."""
    median = samples.median(label)
    return {
        f"{name}_ms": median.value,
        f"{name}_low_ms": median.low,
        f"{name}_high_ms": median.high,
        f"{name}_min_ms": samples.minimum(label),
        f"{name}_p90_ms": samples.p90(label),
    }


def ratio_figures(samples: Samples, label: str, to: str, name: str) -> dict[str, float]:
    """name, the median of the ratio round by round, with its ends _low and _high."""
    ratio = samples.ratio(label, to)
    return {name: ratio.value, f"{name}_low": ratio.low, f"{name}_high": ratio.high}
