"""Evidence from phones: latencies that `mobileone latency import` or `run` recorded, kept in a report's devices.csv.

Networks are compared within a setting: device, OS, compute units, precision and protocol. A claim's level is a model's
name: mobileone_s0, or gelu for the 30-layer network with that activation (`--title gelu`). Train forms do not count.
"""

import itertools
import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from mobileone_core.benchmark.samples import Estimate
from mobileone_core.reporting.devices import UNITS
from mobileone_core.reporting.environment import is_within_tolerance
from mobileone_core.reporting.ledger.claims import PaperClaim
from mobileone_core.reporting.ledger.evidence import (
    Evidence,
    Finding,
    SavedResult,
    against,
    conclusion,
    correlation_finding,
)
from mobileone_core.reporting.measured import table9
from mobileone_core.reporting.measured.correlation import spearman
from mobileone_core.reporting.measured.result import ALIKE, MeasuredResult
from mobileone_core.reporting.measured.view import estimate_text
from mobileone_core.study.rows import DeviceRow

STATISTICS = ("min", "low", "median", "average")  # the first that a setting reports is compared; the paper's is min
PRECISION = "float16"  # of a package without a manifest: Core ML's default

Times = Mapping[str, Sequence[float]]  # the milliseconds of each run, by model


def phone_evidence(claim: PaperClaim, results: Sequence[SavedResult]) -> list[Evidence]:
    """Return what the phones in reports say of a claim on time; nothing where a network of it was not measured."""
    rows = []
    for item in results if claim.on in ("", "phone") and claim.test in ("time", "correlation") else ():
        for data, protocol, statistic, times in _settings(getattr(item.result, "devices", ())):
            is_time = claim.test == "time"
            findings = _ratios(claim, times, statistic) if is_time else _correlation(claim, item.result, times)
            if findings and len(findings) == max(1, len(claim.levels)):
                rows.append(Evidence(item.report, data, f"protocol {protocol}", *conclusion(claim, findings)))
    return rows


def _settings(devices: Sequence[DeviceRow]) -> Iterator[tuple[str, str, str, Times]]:
    """Setting as text, protocol, statistic, and the times of its models."""
    settings = defaultdict[tuple[str, str], list[DeviceRow]](list)
    for row in devices:
        if row.form != "train" and not row.os.startswith("macOS"):
            units, precision = UNITS.get(row.compute_units, row.compute_units), row.precision or PRECISION
            settings[f"{row.device}, {row.os}, {units}, {precision}", row.protocol].append(row)
    for (data, protocol), rows in sorted(settings.items()):
        statistic = next((name for name in STATISTICS if any(name in row.statistics for row in rows)), "")
        times = defaultdict[str, list[float]](list)
        for row in rows:
            times[row.model] += [row.statistics[statistic]] if statistic in row.statistics else []
        yield data, protocol, statistic, times


def _ratios(claim: PaperClaim, times: Times, statistic: str) -> list[Finding]:
    """Ratios over all pairs of runs, judged as those of other devices: a difference of 3 % or less is none."""
    findings, base = [], times.get(str(next(iter(claim.base.values()), "")), ())
    for name in (str(next(iter(level.values()))) for level in claim.levels):
        if ratios := [one / other for one, other in itertools.product(times.get(name, ()), base)]:
            ratio = Estimate(statistics.median(ratios), min(ratios), max(ratios))
            is_alike = is_within_tolerance(ratio.value) or ratio.low <= 1 <= ratio.high
            verdict = ALIKE if is_alike else "slower" if ratio.value > 1 else "faster"
            verdict = verdict if claim.than is None else against(claim.than, ratio)
            text = f"{f'{name} ' if len(claim.levels) > 1 else ''}{estimate_text(ratio)} times, {statistic}"
            findings.append(Finding(verdict, text, distance=abs(ratio.value - (claim.than or 1.0))))
    return findings


def _correlation(claim: PaperClaim, result: MeasuredResult, times: Times) -> list[Finding]:
    """Spearman's rank correlation with a cost over those of table 1's networks that have a cost in the report."""
    names = table9.figure2_names()
    costs = {item.network: item.metric(claim.metric) for item in result.entries}
    shared = [name for name, cost in costs.items() if cost and times.get(name) and table9.paper_name(name) in names]
    value = spearman([statistics.median(times[name]) for name in shared], [costs[name] or 0.0 for name in shared])
    return [] if value.low is None else [correlation_finding(claim, value)]
